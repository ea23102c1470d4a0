/** A file to which a runtime writes the pid of a process when that runs. */
import type { ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import { SkimError } from "../base/errors.js";

/** How often is looked, ms. */
const lookMs = 5;

/** The pid, as soon as the runtime has written it. Throws NOT_FOUND where that ends before, or takes longer than `limitMs`. */
export async function readPid(file: string, runtime: ChildProcess, limitMs: number): Promise<number> {
  const endsAt = performance.now() + limitMs;
  for (;;) {
    const pid = Number((await readFile(file, "utf8").catch(() => "")).trim());
    if (pid > 0) return pid;
    const hasEnded = runtime.exitCode !== null || runtime.signalCode !== null;
    if (hasEnded || performance.now() >= endsAt)
      throw new SkimError("NOT_FOUND", "the process has not started");
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
}
