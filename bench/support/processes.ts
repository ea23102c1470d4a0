/** Programs: those that are measured, and those that set up and clear away. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";

/** More than the slowest measured program needs: fuse-native walks 500,000 files in about two minutes. */
const timeoutMsDefault = 600_000;

export interface RunOptions {
  /** Ends the program with SIGTERM; the call then throws the signal's reason. Leave it out for what clears away. */
  readonly signal?: AbortSignal;
  readonly env?: NodeJS.ProcessEnv;
  /** Standard output is thrown away, and the answer is empty. */
  readonly discard?: boolean;
  readonly timeoutMs?: number;
}

export interface Ran {
  readonly stdout: string;
  /** From before the fork until the end is known here. */
  readonly milliseconds: number;
}

/** Runs a program to its end. Throws where it does not exit with 0, with what it wrote to standard error. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { signal, env, discard = false, timeoutMs = timeoutMsDefault } = options;
  signal?.throwIfAborted();
  const started = performance.now();
  const child = spawn(program, args, {
    // What clears away must not be reached by the Ctrl-C that made it necessary: a session of its own.
    detached: signal === undefined,
    stdio: ["ignore", discard ? "ignore" : "pipe", "pipe"],
    ...(env ? { env } : {}),
  });
  const onAbort = () => child.kill("SIGTERM");
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const texts = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    texts.stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    texts.stderr += text;
  });
  try {
    const exit = await ended(child);
    const milliseconds = performance.now() - started;
    signal?.throwIfAborted();
    if (exit !== 0)
      throw new Error(`${program} ${args.join(" ")} ended with ${exit}: ${texts.stderr.trim().slice(-2000)}`);
    return { stdout: texts.stdout, milliseconds };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function ended(child: ChildProcess): Promise<number | string | null> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal ?? code));
  });
}

/** Throws where a program is not installed, with the command that mends it. */
export function requirePrograms(programs: readonly string[]): void {
  const missing = programs.filter((program) => {
    try {
      execFileSync("sh", ["-c", 'command -v "$1"', "sh", program], { stdio: "ignore" });
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length > 0) throw new Error(`${missing.join(", ")} missing; run: scripts/setup.sh --for bench`);
}
