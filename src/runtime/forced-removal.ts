/**
 * Ends and removes a container without its runtime, for where that fails or hangs: `runsc delete` asks the sandbox first, and waits without end
 * for one that does not answer (seen after it had come to its limit of processes).
 *
 * The processes are those that the runtime's state file names. A pid alone could be another process's by now: runc and crun write the
 * start time beside it, and what runsc starts carries state directory and bundle in its command line.
 */
import { readFileSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import {
  identifyProcess,
  isRunning,
  type ProcessIdentity,
  processEnded,
  signalProcess,
} from "../base/process-identity.js";
import type { RuntimeKind, RuntimeName } from "./runtime-command.js";

/** A process that was killed ends when the kernel has closed its files; one that waits for a dead network file system does not. */
const endLimitMs = 15_000;

/** Throws RUNTIME_FAILED where a process does not end, or the state file cannot be read; then the state stays. */
export async function removeByForce(kind: RuntimeKind, stateDir: string, id: string): Promise<void> {
  const processes = await processesOf(kind, stateDir, id);
  for (const one of processes) signalProcess(one, "SIGKILL");
  for (const one of processes) {
    if (await processEnded(one, endLimitMs)) continue;
    throw new SkimError(
      "RUNTIME_FAILED",
      `process ${one.pid} of container ${id} was killed and does not end; see /proc/${one.pid}/stack for what it waits for`,
    );
  }
  for (const entry of kind.stateEntries(id))
    await rm(path.join(stateDir, entry), { recursive: true, force: true });
}

async function processesOf(kind: RuntimeKind, stateDir: string, id: string): Promise<ProcessIdentity[]> {
  const file = path.join(stateDir, kind.stateFile(id));
  try {
    const state = JSON.parse(await readFile(file, "utf8")) as StateFile;
    return readers[kind.name](state, stateDir).filter(isRunning);
  } catch (cause) {
    // The runtime ended before it wrote it: what it had started ended with it.
    if (systemErrorCode(cause) === "ENOENT") return [];
    throw new SkimError("RUNTIME_FAILED", `state ${file} of container ${id} cannot be read`, { cause });
  }
}

/** What is read of them, of each runtime its own. */
interface StateFile {
  /** runc: pid, and field 22 of /proc/PID/stat. */
  readonly init_process_pid?: number;
  readonly init_process_start?: number;
  /** crun: the same. */
  readonly pid?: number;
  readonly "process-start-time"?: number;
  /** runsc. */
  readonly sandbox?: { readonly pid?: number } | null;
  readonly goferPid?: number;
  readonly bundleDir?: string;
}

const readers: Readonly<Record<RuntimeName, (state: StateFile, stateDir: string) => ProcessIdentity[]>> = {
  runc: (state) => identity(state.init_process_pid, state.init_process_start),
  crun: (state) => identity(state.pid, state["process-start-time"]),
  runsc: ({ sandbox, goferPid, bundleDir = "" }, stateDir) =>
    [sandbox?.pid, goferPid].flatMap((pid) => {
      const found = pid ? identifyProcess(pid) : undefined;
      return found && isOfBundle(found.pid, stateDir, bundleDir) ? [found] : [];
    }),
};

function identity(pid: number | undefined, startTicks: number | undefined): ProcessIdentity[] {
  return pid && startTicks ? [{ pid, startTicks }] : [];
}

function isOfBundle(pid: number, stateDir: string, bundle: string): boolean {
  let words: string[];
  try {
    words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return false;
  }
  const hasBundle = words.includes(bundle) || words.includes(`--bundle=${bundle}`);
  return hasBundle && words.includes(`--root=${stateDir}`);
}
