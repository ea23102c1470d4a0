import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { PassThrough, Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { writeBundle } from "../../src/runtime/bundle.js";
import { execInContainer } from "../../src/runtime/container-exec.js";
import {
  type ContainerIdentity,
  containerState,
  createContainer,
  destroyContainer,
  killContainer,
  startContainer,
} from "../../src/runtime/container-lifecycle.js";
import { buildExecProcess, type ExecProcessOptions } from "../../src/runtime/exec-process.js";
import { readHostFacts } from "../../src/runtime/host-facts.js";
import { buildRuntimeSpec } from "../../src/runtime/oci-spec.js";
import { runtimeNames } from "../../src/runtime/runtime-command.js";
import type { RuntimeSpec } from "../../src/runtime/runtime-spec.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";
import { group, imageConfig, makeBusyboxRoot, passwd, remains } from "./busybox-bundle.js";

const accounts = { passwd, group };
let dir: string;
let count = 0;

beforeEach(async () => {
  dir = await makeTempDir("exec");
  makeBusyboxRoot(dir);
});

afterEach(async () => {
  expect(remains(dir)).toEqual([]);
  await removeTempDir(dir);
});

describe.each(runtimeNames)("%s", (runtime) => {
  if (spawnSync(runtime, ["--version"]).status !== 0) {
    test.skip(`needs ${runtime} (apt-get install ${runtime})`, () => {});
    return;
  }
  let container: ContainerIdentity;
  let bundle: string;
  let spec: RuntimeSpec;

  async function create(args: readonly string[]): Promise<void> {
    container = { runtime, id: `skim-test-${process.pid}-exec${count++}`, stateDir: path.join(dir, runtime) };
    bundle = path.join(dir, "bundles", container.id);
    spec = buildRuntimeSpec({
      config: imageConfig({ User: "app", WorkingDir: "/tmp", Env: ["A=image"] }),
      rootfs: path.join(dir, "rootfs"),
      accounts,
      host: await readHostFacts(),
      args,
    });
    await writeBundle(bundle, spec);
    await createContainer({ ...container, bundle });
  }

  async function exec(
    args: readonly string[],
    options: Partial<ExecProcessOptions> & { stdin?: Readable; signal?: AbortSignal } = {},
    onOutput: (text: string) => void = () => {},
  ) {
    const { stdin, signal, ...processOptions } = options;
    const output = { stdout: "", stderr: "" };
    const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
    for (const name of ["stdout", "stderr"] as const)
      streams[name].on("data", (bytes) => {
        output[name] += bytes;
        if (name === "stdout") onOutput(output.stdout);
      });
    const exit = await execInContainer({
      ...container,
      directory: bundle,
      process: buildExecProcess({ first: spec.process, accounts, args, ...processOptions }),
      stdio: { ...streams, ...(stdin ? { stdin } : {}) },
      ...(signal ? { signal } : {}),
    });
    return { ...exit, ...output };
  }

  test("is created, started, killed and deleted, and says each time what it is", async () => {
    await create(["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]);
    expect((await containerState(container))?.status).toBe("created");
    await expect(createContainer({ ...container, bundle })).rejects.toMatchObject({ code: "IN_USE" });
    await startContainer({ ...container, bundle });
    const running = await containerState(container);
    expect(running?.status).toBe("running");
    expect(running!.pid).toBeGreaterThan(0);
    await killContainer(container, "SIGKILL");
    await expect.poll(async () => (await containerState(container))?.status).toBe("stopped");
    await destroyContainer(container);
    expect(await containerState(container)).toBeUndefined();
    await expect(startContainer({ ...container, bundle })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(exec(["true"])).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("refuses to create what cannot be, with the reason, and leaves nothing", async () => {
    await create(["sh"]);
    await destroyContainer(container);
    const absent = { destination: "/x", type: "bind", source: path.join(dir, "absent"), options: ["rbind"] };
    await writeBundle(bundle, { ...spec, mounts: [...spec.mounts, absent] });
    await expect(createContainer({ ...container, bundle })).rejects.toMatchObject({
      code: "RUNTIME_FAILED",
      message: expect.stringContaining("absent"),
    });
  });

  test("executes further processes in the surroundings of the first one, or in others", async () => {
    await create(["sleep", "1000"]);
    await startContainer({ ...container, bundle });
    try {
      const script = "id -u; id -g; id -G; pwd; echo $A $B $HOME";
      const same = await exec(["sh", "-c", script]);
      expect(same).toMatchObject({ exitCode: 0, stderr: "" });
      expect(same.stdout.replace("1002 29 44", "29 44 1002")).toBe(
        "1001\n1002\n29 44 1002\n/tmp\nimage /home/app\n",
      );
      const other = await exec(["sh", "-c", script], { user: "root", env: ["B=new"], workdir: "/bin" });
      expect(other.stdout).toBe("0\n0\n0\n/bin\nimage new /root\n");
      expect(await exec(["sh", "-c", "echo out; echo err >&2; exit 7"])).toEqual({
        exitCode: 7,
        stdout: "out\n",
        stderr: "err\n",
      });
      expect(await exec(["nosuch"])).toMatchObject({ exitCode: 127 });
      expect(await exec(["/etc/passwd"])).toMatchObject({ exitCode: 126 });
      expect(await exec(["sh", "-c", "exit 127"])).toEqual({ exitCode: 127, stdout: "", stderr: "" });
      expect(readdirSync(bundle)).toEqual(["config.json"]);
    } finally {
      await destroyContainer(container);
    }
  });

  test("streams standard input to it, and what it writes back, as they come", async () => {
    await create(["sleep", "1000"]);
    await startContainer({ ...container, bundle });
    try {
      const big = `${"0123456789abcdef\n".repeat(100_000)}end`;
      const ran = await exec(["cat"], { stdin: Readable.from([big]) });
      expect(ran.exitCode).toBe(0);
      expect(ran.stdout === big).toBe(true);
      // Each line is only sent when the answer to the one before has come.
      const input = new PassThrough();
      let lines = 0;
      input.write("first\n");
      const echoed = await exec(["cat"], { stdin: input }, (text) => {
        const seen = text.split("\n").length - 1;
        while (lines < seen) if (++lines < 4) input.write(`line ${lines}\n`);
        if (lines === 4) input.end();
      });
      expect(echoed.stdout).toBe("first\nline 1\nline 2\nline 3\n");
    } finally {
      await destroyContainer(container);
    }
  });

  test("hands signals to it alone, and kills it when it is given up", async () => {
    await create(["sh", "-c", "trap 'exit 9' TERM INT; while :; do sleep 0.05; done"]);
    await startContainer({ ...container, bundle });
    try {
      const handler = "trap 'echo got it; exit 43' TERM; echo ready; while :; do sleep 0.05; done";
      const ran = await exec(["sh", "-c", handler], {}, (text) => {
        if (text === "ready\n") process.kill(process.pid, "SIGTERM");
      });
      expect(ran).toMatchObject({ exitCode: 43, stdout: "ready\ngot it\n" });
      const abort = new AbortController();
      const stubborn = exec(
        ["sh", "-c", "trap '' TERM; echo ready; exec sleep 12345"],
        { signal: abort.signal },
        () => abort.abort(),
      );
      await expect(stubborn).rejects.toMatchObject({ code: "CANCELLED" });
      const processes = "cat /proc/[0-9]*/cmdline | grep -q '1234[5]' && echo alive || echo gone";
      await expect.poll(async () => (await exec(["sh", "-c", processes])).stdout).toBe("gone\n");
      expect((await containerState(container))?.status).toBe("running");
    } finally {
      await destroyContainer(container);
    }
  });
});

test("a process of another user has his home, unless somebody has set it", () => {
  const first = (env: string[]): RuntimeSpec["process"] => ({
    terminal: false,
    user: { uid: 0, gid: 0, additionalGids: [0] },
    args: ["x"],
    env,
    cwd: "/",
    capabilities: { bounding: ["CAP_KILL"], effective: ["CAP_KILL"], permitted: ["CAP_KILL"] },
    rlimits: [],
    noNewPrivileges: false,
  });
  const home = (env: string[], options: Partial<ExecProcessOptions>) =>
    buildExecProcess({ first: first(env), args: ["x"], accounts, ...options }).env.filter((one) =>
      one.startsWith("HOME="),
    );
  expect(home(["HOME=/root"], { user: "app" })).toEqual(["HOME=/home/app"]);
  expect(home(["HOME=/data"], { user: "app" })).toEqual(["HOME=/data"]);
  expect(home(["HOME=/root"], { user: "app", env: ["HOME=/x"] })).toEqual(["HOME=/x"]);
  expect(home(["HOME=/root"], {})).toEqual(["HOME=/root"]);
  const process = buildExecProcess({ first: first([]), args: ["x"], accounts, user: "app" });
  expect(process.capabilities).toEqual({ bounding: ["CAP_KILL"], effective: [], permitted: [] });
  for (const options of [
    { args: [] },
    { workdir: "rel" },
    { workdir: "/proc/self" },
    { user: "nobody-here" },
  ])
    expect(() => buildExecProcess({ first: first([]), args: ["x"], accounts, ...options })).toThrow(
      expect.objectContaining({ code: "USAGE" }),
    );
});
