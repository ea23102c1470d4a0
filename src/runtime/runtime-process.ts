/** The runtime as a child process that stays while a process of a container runs, and its streams. */
import type { ChildProcess } from "node:child_process";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { missingRuntime, type RuntimeKind } from "./runtime-command.js";

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

export interface RuntimeProcessOptions {
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  readonly signal?: AbortSignal;
  /** Ends the container's process, so that the runtime can put the terminal back. Where there is none yet it throws, and the runtime is killed. */
  readonly kill: () => Promise<void>;
}

/** Resolves to the exit code when the runtime has ended and its streams are read to the end. */
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
  const onAbort = () => {
    options.kill().catch(() => child.kill("SIGKILL"));
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

export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** `cause` is execFile's: its message has the command line, its stderr the reason. */
export function runtimeError(kind: RuntimeKind, what: string, cause: unknown): SkimError {
  if (systemErrorCode(cause) === "ENOENT") return missingRuntime(kind, cause);
  const stderr =
    typeof cause === "object" && cause !== null && "stderr" in cause ? String(cause.stderr).trim() : "";
  const said = /msg="((?:[^"\\]|\\.)*)"/.exec(stderr)?.[1] ?? stderr;
  return new SkimError("RUNTIME_FAILED", `${kind.name}: ${what}${said ? `: ${said}` : ""}`, { cause });
}
