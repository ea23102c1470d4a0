/**
 * Removes the control groups of a container that is gone. Runtimes do that themselves, but not runsc (2022-12) when a start fails
 * half way, nor anybody who was killed. Both make a group named after the container below their own (cgroups(7)).
 */
import { readFile, rmdir } from "node:fs/promises";
import path from "node:path";
import { systemErrorCode } from "../base/errors.js";

/** A process that was killed is in its groups until its parent has heard of it, and the others of its pid namespace die after the first. */
const deathLimitMs = 2_000;
const lookAgainMs = 20;

/** Removes the groups named `id` in all hierarchies, as far as no process stays in them. Never throws. */
export async function removeEmptyCgroups(id: string): Promise<void> {
  let groups = await groupsNamed(id);
  for (const endsAt = performance.now() + deathLimitMs; ; ) {
    const busy = await Promise.all(groups.map(async (group) => ((await isRemoved(group)) ? [] : [group])));
    groups = busy.flat();
    if (groups.length === 0 || performance.now() > endsAt) return;
    await new Promise((resolve) => setTimeout(resolve, lookAgainMs));
  }
}

/** False where processes or children are in it. */
async function isRemoved(group: string): Promise<boolean> {
  return await rmdir(group).then(
    () => true,
    (error: unknown) => systemErrorCode(error) !== "EBUSY",
  );
}

/** Where they would be. */
async function groupsNamed(id: string): Promise<string[]> {
  const [mounts, own] = await Promise.all([
    readFile("/proc/self/mountinfo", "utf8").catch(() => ""),
    readFile("/proc/self/cgroup", "utf8").catch(() => ""),
  ]);
  // hierarchy:controllers:path
  const ownPaths = own.split("\n").map((line) => line.split(":").slice(2).join(":") || "/");
  const parents = new Set(["/", ...ownPaths, ...ownPaths.map((ownPath) => path.dirname(ownPath))]);
  return mounts.split("\n").flatMap((line) => {
    const mountPoint = / - cgroup2? /.test(line) ? line.split(" ")[4] : undefined;
    return mountPoint ? [...parents].map((parent) => path.join(mountPoint, parent, id)) : [];
  });
}
