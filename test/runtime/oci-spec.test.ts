import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { writeBundle } from "../../src/runtime/bundle.js";
import { type HostFacts, readHostFacts } from "../../src/runtime/host-facts.js";
import {
  buildRuntimeSpec,
  containerDirectories,
  type RuntimeSpecOptions,
} from "../../src/runtime/oci-spec.js";
import { makeTempDir } from "../support/temp-dir.js";
import { group, imageConfig, passwd } from "./busybox-bundle.js";

const host: HostFacts = {
  cgroup: "v2",
  hostname: "worker1",
  openFilesMax: 500_000,
  nameFiles: ["/etc/resolv.conf", "/etc/hosts"],
};

function spec(config: Record<string, unknown>, options: Partial<RuntimeSpecOptions> = {}) {
  const accounts = { passwd, group };
  return buildRuntimeSpec({ config: imageConfig(config), rootfs: "/r", accounts, host, ...options });
}

describe("the command", () => {
  const image = { Entrypoint: ["/entry", "-x"], Cmd: ["serve"] };
  test.each([
    ["is entrypoint and cmd", image, {}, ["/entry", "-x", "serve"]],
    ["has the arguments in place of cmd", image, { args: ["a", "b"] }, ["/entry", "-x", "a", "b"]],
    ["has cmd where the arguments are empty", image, { args: [] }, ["/entry", "-x", "serve"]],
    ["loses cmd with another entrypoint", image, { entrypoint: ["/sh"] }, ["/sh"]],
    ["takes both from the caller", image, { entrypoint: ["/sh"], args: ["-c", "x y"] }, ["/sh", "-c", "x y"]],
    ["is the arguments where the entrypoint is taken away", image, { entrypoint: [], args: ["ls"] }, ["ls"]],
    ["is cmd alone", { Cmd: ["sh"] }, {}, ["sh"]],
  ])("%s", (_, config, options, expected) => {
    expect(spec(config, options).process.args).toEqual(expected);
  });

  test("must be there", () => {
    expect(() => spec({})).toThrow(
      expect.objectContaining({
        code: "USAGE",
        message: expect.stringMatching(/no command .* give one behind --/),
      }),
    );
    expect(() => spec(image, { entrypoint: [] })).toThrow("no command");
    expect(() => spec({ Cmd: ["a\0b"] })).toThrow(expect.objectContaining({ code: "IMAGE_INVALID" }));
  });
});

describe("the environment", () => {
  test("has each name once with its last value, and PATH, HOME, HOSTNAME where the image has none", () => {
    const config = {
      Cmd: ["x"],
      User: "app",
      Env: ["A=1", "B=2", "A=3", "EMPTY=", "X=a=b", "novalue", "=bad"],
    };
    expect(spec(config, { env: ["B=4", "C=5", "C=6"] }).process.env).toEqual([
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "HOSTNAME=worker1",
      "A=3",
      "B=4",
      "EMPTY=",
      "X=a=b",
      "C=6",
      "HOME=/home/app",
    ]);
  });

  test("leaves the image its PATH and HOME, and names the terminal where there is one", () => {
    const config = { Cmd: ["x"], Env: ["PATH=/opt/bin", "HOME=/data", "TERM=dumb"] };
    expect(spec(config, { terminal: true, hostname: "box" }).process.env).toEqual([
      "PATH=/opt/bin",
      "HOSTNAME=box",
      "TERM=dumb",
      "HOME=/data",
    ]);
    expect(spec({ Cmd: ["x"] }, { terminal: true }).process.env).toContain("TERM=xterm");
    expect(spec({ Cmd: ["x"] }).process.env.join()).not.toContain("TERM");
  });
});

describe("the working directory", () => {
  test.each([
    ["", undefined, "/"],
    ["/srv/app/", undefined, "/srv/app"],
    ["relative", undefined, "/relative"],
    ["/a/../../b//c/.", undefined, "/b/c"],
    ["/srv", "/given", "/given"],
  ])("of image %j and option %j is %j", (workingDir, workdir, expected) => {
    const config = { Cmd: ["x"], WorkingDir: workingDir };
    expect(spec(config, workdir ? { workdir } : {}).process.cwd).toBe(expected);
  });

  test.each(["/proc", "/proc/self/fd/8", "/x/../proc/1", "//proc//self"])(
    "%s is refused (CVE-2024-21626)",
    (dir) => {
      expect(() => spec({ Cmd: ["x"], WorkingDir: dir })).toThrow(
        expect.objectContaining({ code: "IMAGE_INVALID" }),
      );
      expect(() => spec({ Cmd: ["x"] }, { workdir: dir })).toThrow(
        expect.objectContaining({ code: "USAGE" }),
      );
      expect(() => containerDirectories(imageConfig({ WorkingDir: dir }))).toThrow("/proc");
    },
  );

  test("and the volumes are directories to be seeded", () => {
    const config = imageConfig({
      WorkingDir: "/srv/app",
      Volumes: { "/data/": {}, "/": {}, relative: {}, "/proc/x": {} },
    });
    expect(containerDirectories(config)).toEqual([{ path: "/srv/app" }, { path: "/data" }]);
    expect(containerDirectories(config, "/w")).toEqual([{ path: "/w" }, { path: "/data" }]);
  });
});

describe("mounts", () => {
  const bind = (destination: string) => ({ destination, type: "bind", source: "/s", options: ["rbind"] });

  test("come parents first, and one of the caller's replaces a default", () => {
    const { mounts } = spec({ Cmd: ["x"] }, { mounts: [bind("/a/b/c"), bind("/dev/shm/"), bind("/a")] });
    const destinations = mounts.map((mount) => mount.destination);
    expect(destinations.indexOf("/a")).toBeLessThan(destinations.indexOf("/a/b/c"));
    expect(destinations.indexOf("/dev")).toBeLessThan(destinations.indexOf("/dev/shm"));
    expect(mounts.filter((mount) => mount.destination === "/dev/shm")).toEqual([bind("/dev/shm")]);
    expect(new Set(destinations).size).toBe(destinations.length);
  });

  test.each(["relative", "/", "/..", "/proc", "/proc/sys"])("on %j are refused", (destination) => {
    expect(() => spec({ Cmd: ["x"] }, { mounts: [bind(destination)] })).toThrow(
      expect.objectContaining({ code: "USAGE" }),
    );
  });

  test("in one place are refused", () => {
    expect(() => spec({ Cmd: ["x"] }, { mounts: [bind("/a"), bind("/a/")] })).toThrow("two mounts");
  });

  test("bring the host's name files into its network, and not into none", () => {
    const files = (network: "host" | "none") =>
      spec({ Cmd: ["x"] }, { network }).mounts.filter((mount) => mount.destination.startsWith("/etc"));
    expect(files("host")).toMatchObject([
      { destination: "/etc/resolv.conf", options: ["bind", "ro", "rprivate"] },
      { destination: "/etc/hosts" },
    ]);
    expect(files("none")).toEqual([]);
  });
});

test("namespaces follow the network and the version of the control groups", () => {
  const types = (options: Partial<RuntimeSpecOptions>) =>
    spec({ Cmd: ["x"] }, options).linux.namespaces.map((namespace) => namespace.type);
  expect(types({})).toEqual(["pid", "ipc", "uts", "mount", "cgroup"]);
  expect(types({ network: "none", host: { ...host, cgroup: "v1" } })).toEqual([
    "pid",
    "ipc",
    "uts",
    "mount",
    "network",
  ]);
});

test("what differs from `runc spec` differs for a reason", async () => {
  const dir = await makeTempDir("spec");
  execFileSync("runc", ["spec"], { cwd: dir });
  const theirs = JSON.parse(readFileSync(path.join(dir, "config.json"), "utf8"));
  const ours = JSON.parse(
    JSON.stringify(
      spec(
        { Cmd: ["sh"] },
        {
          host: { ...host, cgroup: "v1", openFilesMax: 1024, nameFiles: [] },
          network: "none",
          terminal: true,
        },
      ),
    ),
  );
  const reasons = {
    "/ociVersion": "a released version, not the one under development",
    "/process/user/additionalGids": "with the primary group: CVE-2022-36109",
    "/process/env/1": "HOSTNAME is set, as docker does",
    "/process/env/2": "TERM comes third",
    "/process/env/3": "HOME is set from passwd",
    "/process/capabilities/bounding": "docker's fourteen",
    "/process/capabilities/effective": "docker's fourteen",
    "/process/capabilities/permitted": "docker's fourteen",
    "/process/capabilities/ambient": "none, as docker",
    "/process/noNewPrivileges": "as docker: setuid programs work",
    "/root/path": "the merged tree",
    "/root/readonly": "it is writable",
    "/hostname": "the host's: in its network names resolve by it",
    "/mounts/proc/options": "nosuid, noexec, nodev, as docker",
    "/mounts/cgroup/options": "as docker, without relatime",
    "/linux/maskedPaths": "docker's, with interrupts and powercap",
  };
  expect(differences("", keyed(theirs), keyed(ours)).sort()).toEqual(Object.keys(reasons).sort());
});

/** Where order means nothing, lists become objects or are sorted. */
function keyed(spec: { mounts: { source: string }[]; linux: { namespaces: { type: string }[] } }): unknown {
  return {
    ...spec,
    mounts: Object.fromEntries(
      spec.mounts.map((mount) => [mount.source === "tmpfs" ? "dev" : mount.source, mount]),
    ),
    linux: { ...spec.linux, namespaces: spec.linux.namespaces.map((namespace) => namespace.type).sort() },
  };
}

/** JSON pointers of what is not the same; lists of strings count as one, but for the environment. */
function differences(at: string, a: unknown, b: unknown): string[] {
  if (isDeepStrictEqual(a, b)) return [];
  const asList = Array.isArray(a ?? b) && !at.endsWith("/env");
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || asList) return [at];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
    differences(`${at}/${key}`, (a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
  );
}

test("config.json is written for its owner alone, and never into the rootfs", async () => {
  const dir = await makeTempDir("bundle");
  const bundle = path.join(dir, "new/bundle");
  await writeBundle(bundle, spec({ Cmd: ["x"] }, { rootfs: path.join(dir, "rootfs") }));
  await writeBundle(bundle, spec({ Cmd: ["y"] }, { rootfs: path.join(dir, "rootfs") }));
  expect(statSync(path.join(bundle, "config.json")).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(path.join(bundle, "config.json"), "utf8")).process.args).toEqual(["y"]);
  for (const inside of ["rootfs", "rootfs/a"]) {
    await expect(
      writeBundle(path.join(dir, inside), spec({ Cmd: ["x"] }, { rootfs: path.join(dir, "rootfs") })),
    ).rejects.toMatchObject({ code: "USAGE" });
  }
  expect(existsSync(path.join(dir, "rootfs"))).toBe(false);
});

test("the host's facts are those of this machine", async () => {
  const facts = await readHostFacts();
  expect(facts.hostname).toBe(execFileSync("hostname", { encoding: "utf8" }).trim());
  expect(facts.cgroup).toBe(existsSync("/sys/fs/cgroup/cgroup.controllers") ? "v2" : "v1");
  const hard = execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).trim();
  expect(facts.openFilesMax).toBe(hard === "unlimited" ? 1_048_576 : Math.min(Number(hard), 1_048_576));
});
