/**
 * A process, named so that a reused pid is not mistaken for it: pid and start time (field 22 of /proc/PID/stat, clock ticks since boot; proc(5)).
 */
import { readFileSync } from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/** Undefined when there is no such process, or only its zombie. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The second field, the name in parentheses, may hold anything, parentheses included.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, startTicks: Number(fields[19]) };
}

export function isRunning(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTicks === identity.startTicks;
}

/** The kernel tells nobody but a parent that a process has ended, so its end is looked for this often. */
const endWatchMs = 5;

/** Resolves when the process has ended: to false where that takes longer than `limitMs`. */
export async function processEnded(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const endsAt = performance.now() + limitMs;
  while (isRunning(identity)) {
    if (performance.now() >= endsAt) return false;
    await new Promise((resolve) => setTimeout(resolve, endWatchMs));
  }
  return true;
}

/** Sends a signal to exactly this process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isRunning(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}
