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

/**
 * What docker 27 puts into config.json for `docker run IMAGE` without options (daemon/pkg/oci/defaults.go, caps/defaults.go; the documentation of
 * `docker run`, "Runtime privilege and Linux capabilities" and "Runtime constraints on resources").
 */
const docker = {
  process: {
    capabilities: [
      "CHOWN",
      "DAC_OVERRIDE",
      "FSETID",
      "FOWNER",
      "MKNOD",
      "NET_RAW",
      "SETGID",
      "SETUID",
      "SETFCAP",
      "SETPCAP",
      "NET_BIND_SERVICE",
      "SYS_CHROOT",
      "KILL",
      "AUDIT_WRITE",
    ],
    noNewPrivileges: false,
    env: ["PATH", "HOSTNAME", "HOME"],
    apparmorProfile: "docker-default",
    oomScoreAdj: 0,
    openFiles: "as the daemon's",
  },
  rootReadonly: false,
  mounts: {
    "/proc": "proc nosuid noexec nodev",
    "/dev": "tmpfs nosuid strictatime mode=755 size=65536k",
    "/dev/pts": "devpts nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
    "/sys": "sysfs nosuid noexec nodev ro",
    "/sys/fs/cgroup": "cgroup ro nosuid noexec nodev",
    "/dev/mqueue": "mqueue nosuid noexec nodev",
    "/dev/shm": "tmpfs nosuid noexec nodev mode=1777 size=65536k",
    "/etc/resolv.conf": "bind rbind rprivate",
    "/etc/hosts": "bind rbind rprivate",
    "/etc/hostname": "bind rbind rprivate",
  },
  namespaces: ["mount", "network", "uts", "pid", "ipc", "cgroup"],
  seccomp: "default",
  devices: "deny all, allow those of every container",
  maskedPaths: [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
  ],
  readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
  limits: "none",
};

test("what differs from docker's defaults differs for a reason", () => {
  const { process, root, mounts, linux } = spec({ Cmd: ["sh"] }, { nameFiles: "/b" });
  const ours = {
    process: {
      capabilities: process.capabilities.bounding.map((name) => name.replace("CAP_", "")),
      noNewPrivileges: process.noNewPrivileges,
      env: process.env.map((entry) => entry.split("=")[0]),
      apparmorProfile: "apparmorProfile" in process ? process.apparmorProfile : undefined,
      oomScoreAdj: "oomScoreAdj" in process ? process.oomScoreAdj : 0,
      openFiles: process.rlimits.find(({ type }) => type === "RLIMIT_NOFILE")?.soft,
    },
    rootReadonly: root.readonly,
    mounts: Object.fromEntries(
      mounts.map((mount) => [mount.destination, [mount.type, ...mount.options].join(" ")]),
    ),
    namespaces: linux.namespaces.map(({ type }) => type),
    seccomp: "seccomp" in linux ? linux.seccomp : undefined,
    devices: docker.devices,
    maskedPaths: [...linux.maskedPaths],
    readonlyPaths: [...linux.readonlyPaths],
    limits: Object.keys(linux.resources).join() === "devices" ? "none" : linux.resources,
  };
  expect(linux.resources.devices).toEqual([{ allow: false, access: "rwm" }]);
  const reasons = {
    "/process/apparmorProfile": "it would have to be loaded into the host's kernel first",
    "/process/openFiles":
      "1024, to be raised by the process: a million makes programs slow that close them all",
    "/mounts//etc/resolv.conf": "the host's own file, which a container must not change",
    "/mounts//etc/hosts": "as above",
    "/mounts//etc/hostname": "read-only, as the two above",
    "/namespaces": "the host's network: nothing here sets up addresses",
    "/seccomp": "no filter: capabilities, masked and read-only paths are docker's",
  };
  const sorted = (value: object) => ({
    ...value,
    namespaces: [...(value as typeof docker).namespaces].sort(),
  });
  expect(differences("", sorted(docker), sorted(ours)).sort()).toEqual(Object.keys(reasons).sort());
});

test("labels, the stop signal and exposed ports are annotations, and none is no annotation", () => {
  const config = {
    Cmd: ["x"],
    StopSignal: "SIGQUIT",
    ExposedPorts: { "80/tcp": {}, "443/tcp": {} },
    Labels: { a: "b", "org.example/c": "d" },
  };
  expect(spec(config).annotations).toEqual({
    a: "b",
    "org.example/c": "d",
    "org.opencontainers.image.stopSignal": "SIGQUIT",
    "org.opencontainers.image.exposedPorts": "443/tcp,80/tcp",
  });
  expect(spec({ Cmd: ["x"] }).annotations).toBeUndefined();
});

test.each(["", "a b", "a\nb", "x".repeat(65)])("the host name %j is refused", (hostname) => {
  expect(() => spec({ Cmd: ["x"] }, { hostname })).toThrow(
    expect.objectContaining({ code: "USAGE", message: expect.stringContaining(JSON.stringify(hostname)) }),
  );
});

test("labels that a runtime would take for orders are no annotations, nor is one without a name", () => {
  const orders = [
    ...["run.oci.handler", "run.oci.pidfd_receiver", "module.wasm.image/variant", "krun.ram_mib"],
    ...["dev.gvisor.flag.platform", "io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"],
    ...["org.criu.config", "org.systemd.property.KillMode", "bundle", ""],
  ];
  const harmless = { "run.ocid": "1", bundles: "2", "io.kubernetes.pod": "3", "a b\n": "" };
  const labels = { ...harmless, ...Object.fromEntries(orders.map((key) => [key, "x"])) };
  expect(spec({ Cmd: ["x"], Labels: labels }).annotations).toEqual(harmless);
});

test("limits are the runtime spec's, and what cannot be is refused", () => {
  const limits = { memoryBytes: 64 * 2 ** 20, cpus: 1.5, pids: 50 };
  expect(spec({ Cmd: ["x"] }, { limits }).linux.resources).toEqual({
    devices: [{ allow: false, access: "rwm" }],
    memory: { limit: 67_108_864 },
    cpu: { quota: 150_000, period: 100_000 },
    pids: { limit: 50 },
  });
  for (const wrong of [{ memoryBytes: 4096 }, { cpus: 0 }, { cpus: Number.NaN }, { pids: 0 }, { pids: 1.5 }])
    expect(() => spec({ Cmd: ["x"] }, { limits: wrong })).toThrow(expect.objectContaining({ code: "USAGE" }));
});

test("the profile of runc has its three capabilities and no new privileges, as `runc spec` has", async () => {
  const dir = await makeTempDir("profile");
  execFileSync("runc", ["spec"], { cwd: dir });
  const theirs = JSON.parse(readFileSync(path.join(dir, "config.json"), "utf8")).process;
  const ours = spec({ Cmd: ["x"] }, { profile: "runc" }).process;
  expect([...ours.capabilities.bounding].sort()).toEqual([...theirs.capabilities.bounding].sort());
  expect(ours.noNewPrivileges).toBe(theirs.noNewPrivileges);
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
