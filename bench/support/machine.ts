/** The first line of every result. */
import { execFileSync } from "node:child_process";
import path from "node:path";
import { describeHost, type Host } from "../../src/bench/host.js";

export interface Machine extends Host {
  /** Abbreviated; `+` where files differ from it. */
  readonly commit: string;
}

export function describeMachine(): Machine {
  return { ...describeHost(), commit: commitOf(path.resolve(import.meta.dirname, "../..")) };
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
