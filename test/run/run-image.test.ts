import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { containerState } from "../../src/runtime/container-lifecycle.js";
import { runtimeNames } from "../../src/runtime/runtime-command.js";
import { writeTestImage } from "../support/oci-layout.js";
import { cliFile, makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);

/** A container of Debian's static busybox, from image to exit code. */
describe("skim run", () => {
  let host: SkimHost;
  let archive: string;
  let layout: string;
  let base: Buffer;

  beforeAll(async () => {
    const dir = await makeTempDir("run");
    host = await makeSkimHost();
    layout = path.join(dir, "image");
    const applets = ["sh", "id", "cat", "echo", "sleep", "stat", "env", "pwd", "kill", "hostname", "touch"];
    base = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...applets.map((name) => ({ path: `bin/${name}`, type: "hardlink" as const, link: "bin/busybox" })),
      { path: "tmp/", type: "directory", mode: 0o1777 },
      { path: "etc/", type: "directory" },
      { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n" },
      { path: "etc/group", content: "root:x:0:\napp:x:1235:\nextra:x:77:app\n" },
      { path: "etc/gone", content: "removed by the layer above\n" },
    ]);
    const top = buildTar([{ path: "etc/.wh.gone", content: "" }]);
    await writeTestImage(layout, [{ tar: base }, { tar: top }], {
      config: {
        Cmd: ["sh", "-c", "echo from cmd"],
        Env: ["PATH=/bin", "A=image"],
        User: "app",
        WorkingDir: "/work",
      },
    });
    archive = path.join(dir, "image.skim");
    await host.ok(["index", `oci:${layout}`, "-o", archive]);
  });

  const sh = (script: string) => ["run", archive, "--", "sh", "-c", script];

  it("runs the image's command as the image's user, in its working directory, with its environment", async () => {
    expect(await host.run(["run", archive])).toMatchObject({ code: 0, stdout: "from cmd\n", stderr: "" });
    const { stdout } = await host.run(
      sh("id -u; id -g; id -G; pwd; echo $A $HOME; test -e /etc/gone || echo gone"),
    );
    expect(stdout).toBe("1234\n1235\n1235 77\n/work\nimage /home/app\ngone\n");
  });

  it("lets the command line decide otherwise", async () => {
    const options = [
      "--user",
      "0",
      "--env",
      "A=mine",
      "--env",
      "B=new",
      "--workdir",
      "/tmp",
      "--hostname",
      "box",
    ];
    const { stdout } = await host.run([
      "run",
      ...options,
      archive,
      "--",
      "sh",
      "-c",
      "id -u; pwd; echo $A $B; hostname",
    ]);
    expect(stdout).toBe("0\n/tmp\nmine new\nbox\n");
  });

  it("exits as the process does, and leaves nothing", async () => {
    expect((await host.run(sh("exit 7"))).code).toBe(7);
    const child = host.start(["run", "--id", "ended", archive, "--", "sh", "-c", "echo ready; sleep 98765"]);
    await once(child.stdout!, "data");
    const result = resultOf(child);
    await exec("runc", ["--root", path.join(host.runDir, "runc"), "kill", "ended", "KILL"]);
    expect((await result).code).toBe(137);
    expect((await host.run(["run", archive, "--", "no-such-program"])).code).toBe(127);
    expect(await host.leftovers()).toEqual([]);
  });

  it("hands standard input in, and standard output and error out, apart", async () => {
    const result = await host.run(sh("cat; echo problem >&2"), { input: "through the pipe\n" });
    expect(result).toMatchObject({ code: 0, stdout: "through the pipe\n", stderr: "problem\n" });
  });

  it("hands signals to the process", async () => {
    const child = host.start(sh("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done"));
    await once(child.stdout!, "data");
    const result = resultOf(child);
    child.kill("SIGTERM");
    expect(await result).toMatchObject({ code: 3, stdout: "got it\n" });
    expect(await host.leftovers()).toEqual([]);
  });

  it.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const)("ends by %s when runc hangs in an image, as doctor had said", async (signal, code) => {
    const hanging = path.join(await makeTempDir("run-fifo"), "image");
    const top = buildTar([{ path: "etc/group", type: "fifo" }]);
    await writeTestImage(hanging, [{ tar: base }, { tar: top }], { config: { Cmd: ["sh"] } });
    const image = `oci:${hanging}`;
    const told = await host.run(["doctor", image]);
    expect(told).toMatchObject({
      code: 2,
      stdout: /FAIL user +\/etc\/group: a FIFO: runc opens it and hangs/,
    });
    expect((await host.run(["doctor", "--runtime", "crun", image])).stdout).not.toMatch(/FIFO/);

    const id = `hangs-${signal}`;
    const child = host.start(["run", "--id", id, image]);
    const result = resultOf(child);
    const init = path.join(host.runDir, "runc", id, "state.json");
    await expect.poll(() => existsSync(init), { timeout: 20_000 }).toBe(true);
    child.kill(signal);
    expect(await result).toMatchObject({ code, stderr: "" });
    expect(await host.leftovers()).toEqual([]);
  });

  it.each(runtimeNames)("a read-only bind mount is so in depth, under %s", async (runtime) => {
    const source = await makeTempDir("run-bind");
    const below = path.join(source, "below");
    await mkdir(below);
    await exec("mount", ["-t", "tmpfs", "skim-test", below]);
    try {
      const write = "touch /m/file || echo kept; touch /m/below/file || echo kept below";
      const bind = (end: string) => `type=bind,source=${source},target=/m${end}`;
      const options = ["run", "--runtime", runtime, "--user", "0", "--mount"];
      const command = [archive, "--", "sh", "-c", write];
      const readOnly = await host.run([...options, bind(",readonly"), ...command]);
      expect(readOnly).toMatchObject({ code: 0, stdout: "kept\nkept below\n" });
      expect(await readdir(below)).toEqual([]);
      expect(await host.run([...options, bind(""), ...command])).toMatchObject({ code: 0, stdout: "" });
      expect(await readdir(below)).toEqual(["file"]);
    } finally {
      await exec("umount", [below]);
    }
  });

  it("ends by SIGTERM when the sandbox of runsc hangs, also with its output in a file", async () => {
    const output = openSync(path.join(await makeTempDir("run-hung"), "output"), "w");
    const args = ["run", "--id", "hung", "--runtime", "runsc", archive, "--", "sleep", "1000"];
    const child = spawn(process.execPath, [cliFile, ...args], {
      env: host.env,
      stdio: ["ignore", output, output],
    });
    closeSync(output);
    const ended = once(child, "exit");
    const container = { runtime: "runsc", id: "hung", stateDir: path.join(host.runDir, "runsc") } as const;
    const state = async () => await containerState(container).catch(() => undefined);
    await expect.poll(async () => (await state())?.status, { timeout: 20_000 }).toBe("running");
    process.kill((await state())!.pid, "SIGSTOP");
    child.kill("SIGTERM");
    expect(await ended).toEqual([143, null]);
    expect(await host.leftovers()).toEqual([]);
  }, 60_000);

  it("refuses with 125 what it cannot start, and leaves nothing", async () => {
    const cases: [string[], RegExp][] = [
      [["run", "--user", "nobody-here", archive], /nobody-here/],
      [["run", path.join(layout, "absent.skim")], /absent\.skim/],
      [["run", "--workdir", "/proc/self/fd/7", archive], /proc/],
      [["run", "--runtime", "runsc", "--pids-limit", "30", archive], /30 processes .* at least 128/],
      [["run", "--runtime", "runsc", "--memory", "12MiB", archive], /12582912 bytes .* at least 16MiB/],
      [["run", "--mount", "type=bind,source=/no/such/dir,target=/x", archive], /no\/such\/dir/],
    ];
    for (const [args, text] of cases) {
      const result = await host.run(args);
      expect(result.stderr).toMatch(text);
      expect(result.code).toBe(125);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("cleans up after it was killed: the container ends, and mounts, records and directories go", async () => {
    const child = host.start(["run", "--id", "killed", archive, "--", "sh", "-c", "echo ready; sleep 98765"]);
    await once(child.stdout!, "data");
    const [mounted] = await host.json<{ pid: number }[]>(["ps"]);
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
    // The server goes last of all: when it is gone, so is the rest.
    await processEnd(mounted!.pid);
    await expect.poll(() => host.leftovers(), { timeout: 20_000 }).toEqual([]);
    expect(await containerProcesses("sleep 98765")).toEqual([]);
  });

  it("is not undone by others while it runs, unless by force", async () => {
    const child = host.start([
      "run",
      "--id",
      "running",
      archive,
      "--",
      "sh",
      "-c",
      "echo ready; read line; exit 7",
    ]);
    await once(child.stdout!, "data");
    expect(await host.run(["rootfs", "umount", "running"])).toMatchObject({
      code: 10,
      stderr: expect.stringContaining(`process ${child.pid} runs`),
    });
    expect((await resultOf(child, "go on\n")).code).toBe(7);
    expect(await host.leftovers()).toEqual([]);
  });

  it("says so when its mount server has died, and cleans up when the container ends", async () => {
    const child = host.start(["run", "--id", "served", archive, "--", "sh", "-c", "echo ready; read line"]);
    await once(child.stdout!, "data");
    const [mounted] = await host.json<{ pid: number }[]>(["ps"]);
    process.kill(mounted!.pid, "SIGKILL");
    const [said] = (await once(child.stderr!, "data")) as [Buffer];
    expect(said.toString()).toMatch(/SIGKILL.*the mount server has died/);
    await resultOf(child, "go on\n");
    expect(await host.leftovers()).toEqual([]);
  });

  it("is undone by Ctrl-C while it still mounts", async () => {
    const fresh = await makeSkimHost();
    const child = fresh.start(sh("echo started"));
    child.kill("SIGINT");
    const result = await resultOf(child);
    expect([130, null]).toContain(result.code);
    expect(result.stdout).toBe("");
    expect(await fresh.leftovers()).toEqual([]);
  });

  it("starts an image by name, indexing it on the way, and a second time without the registry's blobs", async () => {
    const fresh = await makeSkimHost();
    const registry: EmbeddedRegistry = await startEmbeddedRegistry({ layout });
    try {
      const image = `${registry.host}/busybox:latest`;
      expect(await fresh.run(["run", image])).toMatchObject({ code: 0, stdout: "from cmd\n" });
      const before = registry.counters.blobRequests;
      expect(await fresh.run(["run", image])).toMatchObject({ code: 0, stdout: "from cmd\n" });
      // The config is fetched to resolve the tag; the layers are not.
      expect(registry.counters.blobRequests - before).toBeLessThanOrEqual(1);
    } finally {
      await registry.close();
    }
    expect(await fresh.leftovers()).toEqual([]);
  });

  it("runs under gVisor", async () => {
    await exec("runsc", ["--version"]);
    const result = await host.run(["run", "--runtime", "runsc", archive, "--", "sh", "-c", "id -u; exit 5"]);
    expect(result).toMatchObject({ code: 5, stdout: "1234\n" });
    expect(await host.leftovers()).toEqual([]);
  });

  it("makes a bundle that runc runs by itself", async () => {
    const bundle = path.join(await makeTempDir("bundle"), "b");
    await host.ok(["bundle", archive, bundle, "--id", "by-hand", "--", "sh", "-c", "echo from runc"]);
    try {
      const root = path.join(bundle, "state");
      const { stdout } = await exec("runc", ["--root", root, "run", "--bundle", bundle, "skim-test-by-hand"]);
      expect(stdout).toBe("from runc\n");
      await exec("rm", ["-rf", root]);
    } finally {
      await host.ok(["rootfs", "umount", "by-hand"]);
    }
    expect(await host.leftovers()).toEqual([]);
    await expect(readdir(bundle)).rejects.toThrow(/ENOENT/);
  });
});

async function processEnd(pid: number): Promise<void> {
  await expect.poll(() => readdir(`/proc/${pid}`).catch(() => "gone"), { timeout: 20_000 }).toBe("gone");
}

async function containerProcesses(command: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "")),
  );
  return lines.filter((line) => line.replaceAll("\0", " ").includes(command));
}
