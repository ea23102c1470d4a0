/** How long a program takes until it is of use: until the first line it prints. */
import { spawn } from "node:child_process";
import { SkimError } from "../base/errors.js";

export interface FirstLine {
  /** From before the fork until the line was here, and until the program had ended. */
  readonly firstLineMs: number;
  readonly totalMs: number;
  readonly line: string;
  /** All that it printed. */
  readonly stdout: string;
}

export interface FirstLineOptions {
  /** Ends the program with SIGTERM; the call then throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Runs a program to its end. Throws RUNTIME_FAILED where it does not exit with 0 or prints no line. */
export async function runToFirstLine(
  program: string,
  args: readonly string[],
  { signal }: FirstLineOptions = {},
): Promise<FirstLine> {
  signal?.throwIfAborted();
  const started = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const onAbort = () => child.kill("SIGTERM");
  signal?.addEventListener("abort", onAbort, { once: true });
  let firstLineMs: number | undefined;
  const texts = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    texts.stdout += text;
    if (texts.stdout.includes("\n")) firstLineMs ??= performance.now() - started;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    texts.stderr += text;
  });
  const command = [program, ...args].join(" ");
  try {
    const exit = await new Promise<number | string | null>((resolve, reject) => {
      child.once("error", (cause) =>
        reject(new SkimError("RUNTIME_FAILED", `cannot run ${command}`, { cause })),
      );
      child.once("close", (code, name) => resolve(name ?? code));
    });
    signal?.throwIfAborted();
    const said = texts.stderr.trim().slice(-1000);
    if (exit !== 0) throw new SkimError("RUNTIME_FAILED", `${command} ended with ${exit}: ${said}`);
    if (firstLineMs === undefined)
      throw new SkimError(
        "RUNTIME_FAILED",
        `${command} printed no line; a start is measured to the first line that the command prints`,
      );
    const line = texts.stdout.slice(0, texts.stdout.indexOf("\n"));
    return { firstLineMs, totalMs: performance.now() - started, line, stdout: texts.stdout };
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
