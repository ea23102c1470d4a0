import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runContainer } from "../../src/runtime/container.js";
import {
  type ContainerIdentity,
  destroyContainer,
  killContainer,
} from "../../src/runtime/container-lifecycle.js";
import { runtimeKinds, runtimeNames } from "../../src/runtime/runtime-command.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";
import { makeBusyboxRoot, type RunOptions, remains, run } from "./busybox-bundle.js";

let dir: string;

beforeEach(async () => {
  dir = await makeTempDir("runtime");
  makeBusyboxRoot(dir);
});

afterEach(async () => {
  expect(remains(dir)).toEqual([]);
  await removeTempDir(dir);
});

const installed = (runtime: string) => spawnSync(runtime, ["--version"]).status === 0;

describe.each(runtimeNames)("%s", (runtime) => {
  // Say why instead of passing without having run anything.
  if (!installed(runtime)) {
    test.skip(`needs ${runtime} (apt-get install ${runtime})`, () => {});
    return;
  }
  const sh = (script: string, options?: RunOptions) => run(dir, runtime, ["sh", "-c", script], options);

  test.each([0, 7, 128, 255])("gives the exit code %i of the process", async (code) => {
    expect(await sh(`exit ${code}`)).toMatchObject({ exitCode: code });
  });

  test("pipes standard input, output and error apart, byte by byte", async () => {
    const big = `${"0123456789abcdef\n".repeat(20_000)}end`;
    const ran = await sh("cat; echo to stderr >&2; exit 3", { stdin: big });
    expect(ran).toMatchObject({ exitCode: 3, stderr: "to stderr\n" });
    expect(ran.stdout === big).toBe(true);
  });

  test("ends when nobody reads its output, and when it does not read its input", async () => {
    const closed = new PassThrough();
    const container = { stdio: { stdout: closed, stderr: new PassThrough() } };
    closed.once("data", () => closed.destroy());
    expect((await sh("while echo line; do :; done 2>/dev/null; exit 5", { container })).exitCode).not.toBe(0);
    expect(await sh("exit 0", { stdin: "x".repeat(1 << 20) })).toMatchObject({ exitCode: 0 });
  });

  test.each([
    ["a name in PATH", "nosuch", 127],
    ["a path", "/bin/nosuch", 127],
    ["a file without execute permission", "/etc/passwd", 126],
  ])("gives docker's exit code for %s that cannot be run", async (_, command, exitCode) => {
    const ran = await run(dir, runtime, [command]);
    // crun does not name a file that it may not open.
    const named = runtime === "crun" && exitCode === 126 ? "open executable" : command;
    expect(ran).toMatchObject({ exitCode, startFailure: expect.stringContaining(named) });
  });

  test("takes exit codes 126 and 127 of a program for what they are", async () => {
    const ran = await sh("exit 127");
    expect(ran.exitCode).toBe(127);
    expect(ran.startFailure).toBeUndefined();
  });

  test("runs as the named user with supplementary groups, in the directory and environment of the image", async () => {
    const ran = await sh("id -u; id -g; id -G; pwd; echo $HOME:$A:$B; hostname", {
      config: { User: "app", WorkingDir: "/work/dir", Env: ["A=image", "B=image"] },
      env: ["B=given"],
      hostname: "box",
    });
    const [uid, gid, groups, cwd, env, hostname] = ran.stdout.split("\n");
    expect([uid, gid, cwd, env, hostname]).toEqual([
      "1001",
      "1002",
      "/work/dir",
      "/home/app:image:given",
      "box",
    ]);
    expect(groups!.split(" ").sort()).toEqual(["1002", "29", "44"]);
  });

  test("takes no orders from the image's labels", async () => {
    const Labels = {
      "run.oci.pidfd_receiver": path.join(dir, "absent.sock"),
      "dev.gvisor.flag.platform": "absent",
      "io.kubernetes.cri.container-type": "container",
      "io.kubernetes.cri.sandbox-id": "another",
    };
    const ran = await run(dir, runtime, ["sh", "-c", "echo started"], { config: { Labels } });
    expect(ran).toEqual({ exitCode: 0, stdout: "started\n", stderr: "" });
  });

  test("refuses what cannot start with the runtime's reason, and leaves nothing", async () => {
    const mounts = [{ destination: "/x", type: "bind", source: "/nosuch/source", options: ["rbind"] }];
    await expect(sh("echo started", { mounts })).rejects.toMatchObject({
      code: "RUNTIME_FAILED",
      message: expect.stringContaining("/nosuch/source"),
    });
  });

  test.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const)(
    "hands %s to the process, which ends as it likes",
    async (signal) => {
      const name = signal.slice(3);
      const ran = await sh(
        `trap 'echo got ${name}; exit 43' ${name}; echo ready; while :; do sleep 0.05; done`,
        {
          onOutput: (text) => text.includes("ready") && process.kill(process.pid, signal),
        },
      );
      expect(ran).toMatchObject({ exitCode: 43, stdout: `ready\ngot ${name}\n` });
    },
  );

  test("reports 128 + n for a process that signal n ended, and goes on for one that ignores what is handed to it", async () => {
    const identity: ContainerIdentity = {
      runtime,
      id: `skim-test-${process.pid}-kill`,
      stateDir: path.join(dir, runtime),
    };
    const ran = await sh("trap '' TERM; echo ready; sleep 0.2; echo still here; sleep 100", {
      container: { id: identity.id },
      onOutput: (text) => {
        if (text.includes("ready")) process.kill(process.pid, "SIGTERM");
        if (text.includes("still")) void killContainer(identity, "SIGKILL");
      },
    });
    expect(ran).toMatchObject({ exitCode: 137, stdout: "ready\nstill here\n" });
    await expect(killContainer(identity, "SIGKILL")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("does not start anything after a signal that came first", async () => {
    const running = sh("touch /started; sleep 100");
    // Wait for the listener only: at this moment there is no runtime yet.
    while (process.listenerCount("SIGTERM") === listeners)
      await new Promise((resolve) => setImmediate(resolve));
    process.kill(process.pid, "SIGTERM");
    expect((await running).exitCode).toBe(143);
    expect(existsSync(path.join(dir, "rootfs/started"))).toBe(false);
    expect(process.listenerCount("SIGTERM")).toBe(listeners);
  });
  const listeners = process.listenerCount("SIGTERM");

  test("is ended by its AbortSignal, before the start as well as while it runs", async () => {
    const abort = new AbortController();
    const running = sh("trap '' TERM INT; echo ready; sleep 100", {
      container: { signal: abort.signal },
      onOutput: () => abort.abort(),
    });
    await expect(running).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(sh("exit 0", { container: { signal: AbortSignal.abort() } })).rejects.toMatchObject({
      code: "CANCELLED",
    });
  });

  test("refuses an id in use and leaves the container that has it alone", async () => {
    const container = { id: `skim-test-${process.pid}-twice` };
    let second: unknown;
    const first = await sh("echo ready; cat", {
      container,
      stdin: "",
      onOutput: () => {},
    });
    expect(first.exitCode).toBe(0);
    const running = await sh("echo ready; sleep 0.5; echo done; exit 9", {
      container,
      onOutput: (text) => {
        if (text.includes("ready")) second = sh("exit 0", { container }).catch((error) => error);
      },
    });
    expect(await second).toMatchObject({ code: "IN_USE" });
    expect(running).toMatchObject({ exitCode: 9, stdout: "ready\ndone\n" });
  });

  test("can be cleaned up by another process after the one that ran it was killed", async () => {
    const id = `skim-test-${process.pid}-orphan`;
    const stateDir = path.join(dir, runtime);
    await mkdir(stateDir, { recursive: true });
    // Only to have a bundle.
    await sh("exit 0", { container: { id: `${id}-before` } });
    const bundle = path.join(dir, "bundles", readBundles()[0]!);
    const spec = JSON.parse(readFileSync(path.join(bundle, "config.json"), "utf8"));
    spec.process.args = ["sleep", "100"];
    writeFileSync(path.join(bundle, "config.json"), JSON.stringify(spec));
    const flags = runtime === "runsc" ? ["--platform=ptrace", "--network=host"] : [];
    const start = [
      ...(await runtimeKinds[runtime].prefix()),
      runtime,
      ...flags,
      "--root",
      stateDir,
      "run",
      "--detach",
      "--bundle",
      bundle,
      id,
    ];
    execFileSync(start[0]!, start.slice(1), { stdio: "ignore" });
    expect(remains(dir)).not.toEqual([]);
    await destroyContainer({ runtime, id, stateDir });
    expect(remains(dir)).toEqual([]);
    await destroyContainer({ runtime, id, stateDir });
  });

  function readBundles(): string[] {
    return execFileSync("ls", [path.join(dir, "bundles")], { encoding: "utf8" })
      .trim()
      .split("\n");
  }
});

describe.each(["runc", "crun"] as const)("limits under %s", (runtime) => {
  test("are those of the container's control groups, on whichever version the host has", async () => {
    const limits = { memoryBytes: 96 * 2 ** 20, cpus: 0.5, pids: 40 };
    const files = [
      ["memory/memory.limit_in_bytes", "memory.max"],
      ["cpu/cpu.cfs_quota_us", "cpu.max"],
      ["pids/pids.max", "pids.max"],
    ];
    const script = files
      .map(([v1, v2]) => `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`)
      .join("; ");
    const ran = await run(dir, runtime, ["sh", "-c", script], { limits });
    expect(ran.stdout.split("\n").map((line) => line.split(" ")[0])).toEqual([
      "100663296",
      "50000",
      "40",
      "",
    ]);
  });
});

test("a container in no network has a loopback and nothing else", async () => {
  const ran = await run(dir, "runc", ["sh", "-c", "ls /sys/class/net"], { network: "none" });
  expect(ran).toMatchObject({ exitCode: 0, stdout: "lo\n" });
});

test("a container has docker's capabilities, and none as another user than root", async () => {
  const script = "grep -E 'Cap(Inh|Eff|Bnd|Amb)' /proc/self/status";
  const root = await run(dir, "runc", ["sh", "-c", script]);
  expect(root.stdout.match(/[0-9a-f]{16}/g)).toEqual([
    "0000000000000000",
    "00000000a80425fb",
    "00000000a80425fb",
    "0000000000000000",
  ]);
  const user = await run(dir, "runc", ["sh", "-c", script], { user: "1234:5678" });
  expect(user.stdout.match(/[0-9a-f]{16}/g)).toEqual([
    "0000000000000000",
    "0000000000000000",
    "00000000a80425fb",
    "0000000000000000",
  ]);
});

test("a runtime that is not installed is named with the command that installs it", async () => {
  const before = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    await expect(run(dir, "runc", ["true"])).rejects.toMatchObject({
      code: "ENVIRONMENT",
      message: expect.stringContaining("apt-get install -y runc"),
    });
  } finally {
    process.env.PATH = before;
  }
});

test("a bundle without config.json fails with the reason", async () => {
  await mkdir(path.join(dir, "empty"));
  for (const runtime of runtimeNames) {
    const attempt = runContainer({
      runtime,
      id: "x",
      stateDir: path.join(dir, runtime),
      bundle: path.join(dir, "empty"),
      stdio: { stdout: new PassThrough(), stderr: new PassThrough() },
    });
    await expect(attempt).rejects.toMatchObject({ code: "RUNTIME_FAILED", message: /config\.json/ });
  }
});
