/** The runtime as a child process that stays while a process of a container runs, and its streams. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, fstatSync, write, writev } from "node:fs";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import { killTree } from "./process-tree.js";
import { missingRuntime, type RuntimeKind } from "./runtime-command.js";

export interface ContainerStreams {
  /** Default: empty. */
  readonly stdin?: Readable;
  /** Not ended. Or a descriptor, which the process gets as it is. */
  readonly stdout: Writable | number;
  readonly stderr: Writable;
}

export interface ContainerExit {
  /** Of the process; 128 + n where signal n ended it; 127 or 126 where its command is not there or cannot be executed. */
  readonly exitCode: number;
  /** For 127 and 126: the runtime's words. It has written them to the standard error already. */
  readonly startFailure?: string;
}

export interface RuntimeProcess {
  readonly child: ChildProcess;
  /** Resolves when what came out is where it belongs. Of the caller's own streams: that is the caller's business. */
  readonly written: Promise<unknown>;
}

/**
 * Starts the runtime in a session of its own: so a Ctrl-C on the terminal reaches it once, through us, and not a second time from the kernel.
 */
export function spawnRuntime(
  kind: RuntimeKind,
  [program, args]: readonly [program: string, args: readonly string[]],
  stdio: "inherit" | ContainerStreams = "inherit",
): RuntimeProcess {
  if (stdio !== "inherit") {
    const output = typeof stdio.stdout === "number" ? stdio.stdout : "pipe";
    const child = spawn(program, args, { stdio: ["pipe", output, "pipe"], detached: true });
    connect(child, stdio);
    return { child, written: Promise.resolve() };
  }
  const output = (fd: number) => (kind.keepsFileOffsets && isRegularFile(fd) ? "pipe" : "inherit");
  // Not the input: a program that reads none of it must leave it to whoever reads the same file next.
  const child = spawn(program, args, { stdio: ["inherit", output(1), output(2)], detached: true });
  const outputs = [child.stdout, child.stderr].map((from, i) => from && append(from, i + 1));
  return { child, written: Promise.all(outputs) };
}

/** Writes to where the open file is at, for all who have it open. The descriptor is this process's: it stays open, also where the stream is given up. */
async function append(from: Readable, fd: number): Promise<void> {
  const keepOpen = (_: number, done: (error: null) => void) => done(null);
  const file = createWriteStream("", { fd, fs: { write, writev, close: keepOpen } });
  await pipeline(from, file).catch(() => from.destroy());
}

function isRegularFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch {
    return false;
  }
}

export interface RuntimeProcessOptions {
  readonly signal?: AbortSignal;
  /** Ends the container's process, so that the runtime can put the terminal back. Where there is none yet it throws, and the runtime is ended. */
  readonly kill: () => Promise<void>;
}

/** How long the runtime may take to end after its process was killed, ms: as long as a call that does the same (runtime-command.ts). */
const endLimitMs = 15_000;

/**
 * Ends a runtime that cannot end its process, with all that it has started. Its streams are given up: under runsc a process in the sandbox
 * may still have them.
 */
export async function endRuntime(child: ChildProcess): Promise<void> {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
    await killTree(child.pid);
  for (const stream of [child.stdout, child.stderr]) stream?.destroy();
}

/** Resolves to the exit code when the runtime has ended and its streams are read to the end. Must be called at once after the start. */
export async function waitForExit(
  kind: RuntimeKind,
  child: ChildProcess,
  options: RuntimeProcessOptions,
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
  let endTimer: NodeJS.Timeout | undefined;
  const onAbort = async () => {
    const limitMs = await options.kill().then(
      () => endLimitMs,
      () => 0,
    );
    endTimer = setTimeout(() => void endRuntime(child), limitMs);
    endTimer.unref();
  };
  if (options.signal?.aborted) void onAbort();
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await ended;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    clearTimeout(endTimer);
  }
}

/** A side that closes early ends its pipe, as in a shell; the exit code says what the process made of it. */
function connect(child: ChildProcess, streams: ContainerStreams): void {
  copy(child.stdout, streams.stdout);
  copy(child.stderr, streams.stderr);
  if (streams.stdin) pipeline(streams.stdin, child.stdin!).catch(() => {});
  else child.stdin!.end();
}

function copy(from: Readable | null, to: Writable | number): void {
  if (from && typeof to !== "number") pipeline(from, to, { end: false }).catch(() => from.destroy());
}

/** Throws CANCELLED. `what` is the subject of the message. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new SkimError("CANCELLED", `${what} was cancelled`, { cause: signal.reason });
}

export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** `cause` is execFile's: its message has the command line, its stderr the reason. */
export function runtimeError(kind: RuntimeKind, what: string, cause: unknown): SkimError {
  if (systemErrorCode(cause) === "ENOENT") return missingRuntime(kind, cause);
  const stderr =
    typeof cause === "object" && cause !== null && "stderr" in cause ? String(cause.stderr).trim() : "";
  const said = isSkimError(cause) ? cause.message : (/msg="((?:[^"\\]|\\.)*)"/.exec(stderr)?.[1] ?? stderr);
  return new SkimError("RUNTIME_FAILED", `${kind.name}: ${what}${said ? `: ${said}` : ""}`, { cause });
}
