/** What a figure is worth depends on where it was measured: the first line of every result. */
import { execFileSync } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import path from "node:path";

export interface Machine {
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly node: string;
  /** Abbreviated; `+` where files differ from it. */
  readonly commit: string;
}

export function describeMachine(): Machine {
  const processors = cpus();
  return {
    kernel: release(),
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    node: process.version,
    commit: commitOf(path.resolve(import.meta.dirname, "../..")),
  };
}

function commitOf(directory: string): string {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", directory, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  try {
    const commit = git("rev-parse", "--short=12", "HEAD").trim();
    return git("status", "--porcelain") ? `${commit}+` : commit;
  } catch {
    return "unknown";
  }
}
