/**
 * Ends a process with all below it, without a race against what they start meanwhile: each is stopped before its children are looked for, and
 * killed when all are. The parent is not waited for yet, so no pid can be another process's.
 */
import { readdir, readFile } from "node:fs/promises";

export async function killTree(root: number): Promise<void> {
  const stopped = new Set<number>();
  for (let found = [root]; found.length > 0; found = await childrenOf(stopped)) {
    for (const pid of found) {
      stopped.add(pid);
      signal(pid, "SIGSTOP");
    }
  }
  for (const pid of [...stopped].reverse()) signal(pid, "SIGKILL");
}

/** Children of `parents` that are not among them. */
async function childrenOf(parents: ReadonlySet<number>): Promise<number[]> {
  const children: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || parents.has(Number(name))) continue;
    const stat = await readFile(`/proc/${name}/stat`, "latin1").catch(() => "");
    // Behind the name in parentheses: state, parent.
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    if (parents.has(parent)) children.push(Number(name));
  }
  return children;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}
