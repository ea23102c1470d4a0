/**
 * One more process in a container that runs, in the foreground. runc and crun hand signals on to it themselves; under runsc it is only known
 * by its pid inside, and `runsc kill` has to.
 *
 * A process that its caller gives up does not end with the runtime's process, which only waits for it: it is killed itself.
 */
import { randomUUID } from "node:crypto";
import { access, mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { type ContainerIdentity, containerState, requireContainer } from "./container-lifecycle.js";
import { readPid } from "./pid-file.js";
import {
  callRuntime,
  commandExitCode,
  commandOf,
  readRuntimeErrors,
  runtimeKinds,
} from "./runtime-command.js";
import {
  type ContainerExit,
  type ContainerStreams,
  endRuntime,
  signalExitCode,
  spawnRuntime,
  throwIfAborted,
  waitForExit,
} from "./runtime-process.js";
import type { RuntimeSpec } from "./runtime-spec.js";
import { type DeliverSignal, SignalRelay, sendOnceStarted } from "./signal-relay.js";

export interface ExecOptions extends ContainerIdentity {
  readonly process: RuntimeSpec["process"];
  /** For files of ours while the process runs (it, the runtime's log, pids): mode 0700 or below, since the environment is in one of them. */
  readonly directory: string;
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** Ends the process with SIGKILL. */
  readonly signal?: AbortSignal;
  /** False: signals that this process gets are its own business. Default: the container's process gets them. */
  readonly forwardSignals?: boolean;
}

/**
 * Resolves when the process has ended. Throws NOT_FOUND where there is no such container, RUNTIME_FAILED with the runtime's reason where the
 * process was not started, CANCELLED.
 */
export async function execInContainer(options: ExecOptions): Promise<ContainerExit> {
  const { id, stateDir, directory } = options;
  // A directory for this one: runtimes write beside and rename, and may be killed in between.
  const own = path.join(directory, `exec-${randomUUID()}`);
  const files = {
    process: path.join(own, "process.json"),
    log: path.join(own, "runtime.log"),
    pid: path.join(own, "pid"),
    innerPid: path.join(own, "inner-pid"),
  };
  const kind = runtimeKinds[options.runtime];
  const killInside: DeliverSignal = async (signal, runtime) => {
    const pid = await readPid(files.innerPid, runtime, startLimitMs);
    const words = ["kill", "--pid", String(pid), id, signal.replace(/^SIG/, "")];
    await callRuntime(kind, stateDir, words);
  };
  const signals =
    options.forwardSignals === false
      ? undefined
      : new SignalRelay(kind.forwardsSignals ? sendOnceStarted(files.pid) : killInside);
  try {
    await requireContainer(options);
    await mkdir(own, { mode: 0o700 });
    await writeFile(files.process, JSON.stringify(options.process), { mode: 0o600, flag: "wx" });
    const command = await commandOf(
      kind,
      { stateDir, logFile: files.log },
      [],
      [
        ...["exec", "--process", files.process, "--pid-file", files.pid],
        ...(kind.innerPidOption === undefined ? [] : [kind.innerPidOption, files.innerPid]),
        id,
      ],
    );
    throwIfAborted(options.signal, `a process in container ${id}`);
    if (signals?.first) return { exitCode: signalExitCode(signals.first) };
    const { child, written } = spawnRuntime(kind, command, options.stdio);
    signals?.sendTo(child);
    const kill = () => (kind.forwardsSignals ? endRuntime(child) : killInside("SIGKILL", child));
    const exitCode = await waitForExit(kind, child, { ...options, kill });
    await written;
    throwIfAborted(options.signal, `a process in container ${id}`);
    if (signals?.endedBy) return { exitCode: signalExitCode(signals.endedBy) };
    if (exitCode === 0) return { exitCode };
    const isStarted = await access(files.pid).then(
      () => true,
      () => false,
    );
    const errors = await readRuntimeErrors(files.log);
    const reason = kind.execFailure(errors, isStarted);
    if (reason === undefined) return { exitCode };
    const commandCode = commandExitCode(reason);
    if (commandCode !== undefined) return { exitCode: commandCode, startFailure: reason };
    const state = await containerState(options).catch(() => undefined);
    if (state === undefined || state.status === "stopped")
      throw new SkimError(
        "NOT_FOUND",
        `container ${id} has ended: ${kind.name} said ${JSON.stringify(reason)}`,
      );
    throw new SkimError("RUNTIME_FAILED", `${kind.name} could not start a process in ${id}: ${reason}`);
  } finally {
    await signals?.close();
    await rm(own, { recursive: true, force: true });
  }
}

/** How long runsc may take to start a process, ms, before one that is to be killed is given up. */
const startLimitMs = 10_000;
