/**
 * Runs a container in the foreground and cleans up after it, whatever happened.
 *
 * The runtime is a child process with the caller's standard streams, in a session of its own: so a Ctrl-C on the terminal reaches it
 * once, through us, and not a second time from the kernel. Signals go to the container's first process, by way of the runtime; as with docker, one that ignores them goes on. A signal that comes before the runtime listens ends the runtime
 * itself, and then there is no container.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { access, mkdir, rm } from "node:fs/promises";
import { constants } from "node:os";
import path from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { removeEmptyCgroups } from "./cgroups.js";
import {
  commandExitCode,
  hasState,
  missingRuntime,
  type RuntimeKind,
  type RuntimeName,
  readRuntimeErrors,
  runtimeKinds,
} from "./runtime-command.js";

const execute = promisify(execFile);

/** WINCH: the runtime gives a container's terminal the size of ours, but only ours is told of a change. */
const forwardedSignals = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
] as const;

/** Enough to find a container again from another process. */
export interface ContainerIdentity {
  readonly runtime: RuntimeName;
  readonly id: string;
  /** Where the runtime keeps its state: a directory for this runtime alone. */
  readonly stateDir: string;
}

export interface RunContainerOptions extends ContainerIdentity {
  /** Directory with config.json. The runtime's log and pid file are put there meanwhile. */
  readonly bundle: string;
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** Ends the container with SIGKILL. */
  readonly signal?: AbortSignal;
  readonly logger?: Logger;
}

export interface ContainerStreams {
  /** Default: empty. */
  readonly stdin?: Readable;
  /** Not ended. */
  readonly stdout: Writable;
  readonly stderr: Writable;
}

export interface ContainerExit {
  /** Of the process; 128 + n where signal n ended it; 127 or 126 where its command is not there or cannot be executed. */
  readonly exitCode: number;
  /** For 127 and 126: the runtime's words. It has written them to the standard error already. */
  readonly startFailure?: string;
}

/**
 * Runs a bundle to its end. Throws RUNTIME_FAILED with the runtime's reason where the process was not started, IN_USE where there
 * is a container of that id, ENVIRONMENT where the runtime is not installed, CANCELLED. Afterwards the container is gone in any
 * case (where the runtime cannot do that, a warning is logged).
 */
export async function runContainer(options: RunContainerOptions): Promise<ContainerExit> {
  const kind = runtimeKinds[options.runtime];
  const logger = options.logger ?? silentLogger;
  const { bundle, stateDir, id } = options;
  const call = { bundle, stateDir, logFile: path.join(bundle, "runtime.log") };
  const pidFile = path.join(bundle, "runtime.pid");
  const signals = new SignalRelay(options);
  let owned = false;
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    if (await hasState(kind, stateDir, id)) throw idInUse(id);
    for (const file of [call.logFile, pidFile]) await rm(file, { force: true });
    const globalOptions = await kind.globalOptions(call);
    throwIfAborted(options.signal, id);
    if (signals.first) return { exitCode: signalExitCode(signals.first) };

    owned = true;
    const child = spawn(kind.name, [...globalOptions, "run", "--bundle", bundle, "--pid-file", pidFile, id], {
      stdio: options.stdio && options.stdio !== "inherit" ? "pipe" : "inherit",
      detached: true,
    });
    signals.sendTo(child);
    const exitCode = await waitForExit(kind, child, options);
    throwIfAborted(options.signal, id);
    logger.debug({ id, exitCode, msg: "container ended" });
    if (exitCode === 0) return { exitCode };

    const started = await access(pidFile).then(
      () => true,
      () => false,
    );
    const errors = await readRuntimeErrors(call.logFile);
    // A runtime that a signal ended before it listened says nothing: that is an end, not a failure.
    if (errors.length === 0 && !started && signals.first) return { exitCode: signalExitCode(signals.first) };
    const reason = kind.startFailure(errors, started);
    if (reason === undefined) return { exitCode };
    if (/already exists/.test(reason)) {
      owned = false;
      throw idInUse(id);
    }
    const commandCode = commandExitCode(reason);
    if (commandCode !== undefined) return { exitCode: commandCode, startFailure: reason };
    throw new SkimError("RUNTIME_FAILED", `${kind.name} could not start container ${id}: ${reason}`);
  } finally {
    await signals.close();
    if (owned) {
      // Whoever made the rootfs under it will find out: it cannot be taken down. The exit code must not be lost for it.
      await destroyContainer(options).catch((error) =>
        logger.warn({ id, error: describeError(error), msg: "container not cleaned up" }),
      );
    }
    for (const file of [call.logFile, pidFile]) await rm(file, { force: true }).catch(() => {});
  }
}

/** Sends a signal to the first process. Throws NOT_FOUND where no such container runs. */
export async function killContainer(container: ContainerIdentity, signal: NodeJS.Signals): Promise<void> {
  const { id, stateDir } = container;
  const kind = runtimeKinds[container.runtime];
  if (!(await hasState(kind, stateDir, id))) {
    throw new SkimError("NOT_FOUND", `there is no container ${id} in ${stateDir}`);
  }
  try {
    await execute(kind.name, ["--root", stateDir, "kill", id, signal.replace(/^SIG/, "")]);
  } catch (cause) {
    throw runtimeError(kind, `container ${id} cannot be sent ${signal}`, cause);
  }
}

/** Kills what runs and removes everything of the container; one that is not there is fine. Works after a crash, from any process. */
export async function destroyContainer(container: ContainerIdentity): Promise<void> {
  const { id, stateDir } = container;
  const kind = runtimeKinds[container.runtime];
  if (await hasState(kind, stateDir, id)) {
    try {
      await execute(kind.name, ["--root", stateDir, "delete", "--force", id]);
    } catch (cause) {
      throw runtimeError(kind, `container ${id} cannot be deleted`, cause);
    }
  }
  // runsc leaves the file that it locks.
  if (kind.name === "runsc") await rm(path.join(stateDir, `${id}_sandbox:${id}.lock`), { force: true });
  await removeEmptyCgroups(id);
}

/** Keeps signals from ending this process while a container runs, and hands them on as soon as there is somebody to take them. */
class SignalRelay {
  readonly #container: ContainerIdentity;
  #child: ChildProcess | undefined;
  #first: NodeJS.Signals | undefined;
  #handedOn = Promise.resolve();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    if (signal !== "SIGWINCH") this.#first ??= signal;
    const child = this.#child;
    if (!child) return;
    if (signal === "SIGWINCH" || runtimeKinds[this.#container.runtime].forwardsSignals) {
      child.kill(signal);
      return;
    }
    // One after the other. Where there is no container yet, the signal ends the runtime.
    this.#handedOn = this.#handedOn
      .then(() => killContainer(this.#container, signal))
      .catch(() => void child.kill(signal));
  };

  constructor(container: ContainerIdentity) {
    this.#container = container;
    for (const signal of forwardedSignals) process.on(signal, this.#onSignal);
  }

  /** The first one that came; one that came before there was a runtime went to nobody. */
  get first(): NodeJS.Signals | undefined {
    return this.#first;
  }

  sendTo(child: ChildProcess): void {
    this.#child = child;
  }

  async close(): Promise<void> {
    for (const signal of forwardedSignals) process.off(signal, this.#onSignal);
    await this.#handedOn;
  }
}

/** Resolves to the exit code when the runtime has ended and its streams are read to the end. */
async function waitForExit(
  kind: RuntimeKind,
  child: ChildProcess,
  options: RunContainerOptions,
): Promise<number> {
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", (error) =>
      reject(
        systemErrorCode(error) === "ENOENT"
          ? missingRuntime(kind, error)
          : runtimeError(kind, "it cannot be run", error),
      ),
    );
    child.once("close", (code, signal) => resolve(code ?? signalExitCode(signal!)));
  });
  const onAbort = () => {
    // Killing the container lets the runtime put the terminal back; where there is none yet, the runtime has to go itself.
    killContainer(options, "SIGKILL").catch(() => child.kill("SIGKILL"));
  };
  if (options.signal?.aborted) onAbort();
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    if (options.stdio && options.stdio !== "inherit") connect(child, options.stdio);
    return await ended;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** A side that closes early ends its pipe, as in a shell; the exit code says what the process made of it. */
function connect(child: ChildProcess, streams: ContainerStreams): void {
  pipeline(child.stdout!, streams.stdout, { end: false }).catch(() => child.stdout!.destroy());
  pipeline(child.stderr!, streams.stderr, { end: false }).catch(() => child.stderr!.destroy());
  if (streams.stdin) pipeline(streams.stdin, child.stdin!).catch(() => {});
  else child.stdin!.end();
}

function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

function throwIfAborted(signal: AbortSignal | undefined, id: string): void {
  if (!signal?.aborted) return;
  throw new SkimError("CANCELLED", `container ${id} was cancelled`, { cause: signal.reason });
}

function idInUse(id: string): SkimError {
  return new SkimError("IN_USE", `there is a container ${id} already; use another id, or end that one first`);
}

/** `cause` is execFile's: its message has the command line, its stderr the reason. */
function runtimeError(kind: RuntimeKind, what: string, cause: unknown): SkimError {
  if (systemErrorCode(cause) === "ENOENT") return missingRuntime(kind, cause);
  const stderr =
    typeof cause === "object" && cause !== null && "stderr" in cause ? String(cause.stderr).trim() : "";
  const said = /msg="((?:[^"\\]|\\.)*)"/.exec(stderr)?.[1] ?? stderr;
  return new SkimError("RUNTIME_FAILED", `${kind.name}: ${what}${said ? `: ${said}` : ""}`, { cause });
}
