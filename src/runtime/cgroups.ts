/**
 * Removes the control groups of a container that is gone. Runtimes do that themselves, but not runsc (2022-12) when a start fails
 * half way, nor anybody who was killed. Both make a group named after the container below their own (cgroups(7)).
 */
import { readFile, rmdir } from "node:fs/promises";
import path from "node:path";

/** Removes the groups named `id` in all hierarchies, as far as no process is in them. Never throws. */
export async function removeEmptyCgroups(id: string): Promise<void> {
  const [mounts, own] = await Promise.all([
    readFile("/proc/self/mountinfo", "utf8").catch(() => ""),
    readFile("/proc/self/cgroup", "utf8").catch(() => ""),
  ]);
  // hierarchy:controllers:path
  const ownPaths = own.split("\n").map((line) => line.split(":").slice(2).join(":") || "/");
  const parents = new Set(["/", ...ownPaths, ...ownPaths.map((ownPath) => path.dirname(ownPath))]);
  for (const line of mounts.split("\n")) {
    const mountPoint = / - cgroup2? /.test(line) ? line.split(" ")[4] : undefined;
    if (!mountPoint) continue;
    // rmdir of a group with processes or children fails with EBUSY, of one that is not there with ENOENT.
    for (const parent of parents) await rmdir(path.join(mountPoint, parent, id)).catch(() => {});
  }
}
