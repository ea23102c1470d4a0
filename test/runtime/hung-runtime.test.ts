import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { identifyProcess, isRunning, processEnded } from "../../src/base/process-identity.js";
import { writeBundle } from "../../src/runtime/bundle.js";
import { runContainer } from "../../src/runtime/container.js";
import {
  type ContainerIdentity,
  containerState,
  createContainer,
  destroyContainer,
  killContainer,
  startContainer,
} from "../../src/runtime/container-lifecycle.js";
import { readHostFacts } from "../../src/runtime/host-facts.js";
import { buildRuntimeSpec } from "../../src/runtime/oci-spec.js";
import { type RuntimeName, runtimeNames } from "../../src/runtime/runtime-command.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";
import { group, imageConfig, makeBusyboxRoot, passwd, remains } from "./busybox-bundle.js";

let dir: string;
let count = 0;
const pathBefore = process.env.PATH;

beforeEach(async () => {
  dir = await makeTempDir("hung");
  makeBusyboxRoot(dir);
});

afterEach(async () => {
  process.env.PATH = pathBefore;
  expect(remains(dir)).toEqual([]);
  expect(processesOf(dir)).toEqual([]);
  await removeTempDir(dir);
});

const installed = runtimeNames.filter((runtime) => spawnSync(runtime, ["--version"]).status === 0);

async function makeContainer(runtime: RuntimeName, hooks?: object) {
  const container: ContainerIdentity = {
    runtime,
    id: `skim-test-${process.pid}-hung${count++}`,
    stateDir: path.join(dir, runtime),
  };
  const bundle = path.join(dir, "bundles", container.id);
  const spec = buildRuntimeSpec({
    config: imageConfig(),
    rootfs: path.join(dir, "rootfs"),
    accounts: { passwd, group },
    host: await readHostFacts(),
    args: ["sleep", "1000"],
  });
  await writeBundle(bundle, hooks ? Object.assign({ ...spec }, { hooks }) : spec);
  return { ...container, bundle };
}

async function startedContainer(runtime: RuntimeName) {
  const container = await makeContainer(runtime);
  await createContainer(container);
  await startContainer(container);
  return container;
}

/** Programs with the runtimes' names that hang, with a child that has their streams, whatever they are told. */
function putHangingRuntimes(): void {
  const bin = path.join(dir, "bin");
  mkdirSync(bin);
  for (const name of runtimeNames) {
    writeFileSync(path.join(bin, name), `#!/bin/sh\nenv IN=${dir}/bin sleep 1000\n`);
    chmodSync(path.join(bin, name), 0o755);
  }
  process.env.PATH = `${bin}:${pathBefore}`;
}

/** Pids of those that have the directory in their command line or environment. */
function processesOf(directory: string): number[] {
  const { stdout } = spawnSync("pgrep", ["-f", directory], { encoding: "utf8" });
  const children = spawnSync("grep", ["-lsF", `IN=${directory}`, ...environments()], { encoding: "utf8" });
  return `${stdout}${children.stdout}`.split(/\D+/).filter(Boolean).map(Number);
}

const environments = () =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => `/proc/${pid}/environ`);

// The limit of a call is waited for once in each: 15 seconds.
const timeout = 60_000;

test.skipIf(!installed.includes("runsc"))(
  "a sandbox of runsc that does not answer is killed and removed, and told from one that does",
  { timeout },
  async () => {
    const container = await startedContainer("runsc");
    const { pid } = (await containerState(container))!;
    const sandbox = identifyProcess(pid)!;
    process.kill(pid, "SIGSTOP");
    const message = expect.stringMatching(/runsc kill hangs, and was killed/);
    await Promise.all([
      expect(killContainer(container, "SIGTERM")).rejects.toMatchObject({ code: "RUNTIME_FAILED", message }),
      destroyContainer(container),
    ]);
    expect(isRunning(sandbox)).toBe(false);
    expect(await containerState(container)).toBeUndefined();
  },
);

test("a container whose runtime hangs is killed and removed without it, and the runtime as well", {
  timeout,
}, async () => {
  const containers = await Promise.all(installed.map(startedContainer));
  const processes = await Promise.all(
    containers.map(async (one) => identifyProcess((await containerState(one))!.pid)!),
  );
  expect(processes.every(isRunning)).toBe(true);
  putHangingRuntimes();
  await Promise.all(containers.map(destroyContainer));
  expect(processes.filter(isRunning)).toEqual([]);
});

test("a process that has the pid of a container that is gone is left alone", { timeout }, async () => {
  const container = await startedContainer("runc");
  const first = identifyProcess((await containerState(container))!.pid)!;
  const file = path.join(container.stateDir, container.id, "state.json");
  const state = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(file, JSON.stringify({ ...state, init_process_start: state.init_process_start - 1 }));
  putHangingRuntimes();
  await destroyContainer(container);
  expect(isRunning(first)).toBe(true);
  process.kill(first.pid, "SIGKILL");
  expect(await processEnded(first, 10_000)).toBe(true);
  await destroyContainer(container);
});

describe.each(installed)("%s that hangs while it makes a container", (runtime) => {
  const run = async (signal?: AbortSignal) => {
    const started = path.join(dir, "hook-started");
    const hook = { path: "/bin/sh", args: ["sh", "-c", `echo > ${started}; exec sleep 1000`] };
    const running = runContainer({
      ...(await makeContainer(runtime, { prestart: [hook] })),
      stdio: { stdout: new PassThrough(), stderr: new PassThrough() },
      ...(signal ? { signal } : {}),
    });
    await expect.poll(() => existsSync(started), { timeout: 10_000 }).toBe(true);
    return { running };
  };

  const signals = [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const;
  // `runsc kill` waits for its lock until the limit.
  test.each(signals.slice(0, runtime === "runsc" ? 1 : 2))(
    "is ended by %s, and nothing is left",
    { timeout },
    async (signal, exitCode) => {
      const { running } = await run();
      process.kill(process.pid, signal);
      expect(await running).toEqual({ exitCode });
    },
  );

  test.skipIf(runtime === "runsc")("is ended by its AbortSignal", { timeout }, async () => {
    const abort = new AbortController();
    const { running } = await run(abort.signal);
    abort.abort();
    await expect(running).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

test.each(runtimeNames)("%s that hangs before it has made anything is ended by a signal", async (runtime) => {
  const container = await makeContainer(runtime);
  putHangingRuntimes();
  if (runtime === "runsc") answerFlags();
  const stdio = { stdout: new PassThrough(), stderr: new PassThrough() };
  const running = runContainer({ ...container, stdio });
  await expect.poll(() => processesOf(`${dir}/bin`).length, { timeout: 10_000 }).toBeGreaterThan(0);
  process.kill(process.pid, "SIGTERM");
  expect(await running).toEqual({ exitCode: 143 });
});

/** runsc is asked for its flags before it is told to run anything. */
function answerFlags(): void {
  const file = path.join(dir, "bin/runsc");
  const script = readFileSync(file, "utf8").replace("\n", '\n[ "$1" = flags ] && exit 0\n');
  writeFileSync(file, script);
}
