/**
 * Who works in a directory: containers whose root it is, processes that stand in it, and mounts in it or of it, in any mount namespace. Looks only
 * at /proc, and there only at links and mount tables, which the kernel answers without touching any filesystem.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import { type MountEntry, parseMountTable, readMountTable } from "../fuse/mount-table.js";
import { isInside, overlaysIn } from "../overlay/overlay-table.js";

/** Enough to see what is going on. */
const usersMax = 5;

/** Up to five sentences such as `process 123 (sh) has its root directory there`. `directory` is absolute, without symlinks. */
export async function findDirectoryUsers(directory: string): Promise<string[]> {
  const table = readMountTable();
  const place = placeOf(directory, table);
  const users = mountUsers(directory, table).map(
    (mountpoint) => `it is in use by the mount at ${mountpoint}`,
  );
  const own = await readlink("/proc/self/ns/mnt");
  const seen = new Set([own]);
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (users.length >= usersMax) break;
    const how = await useOf(pid, directory, place, own, seen);
    if (how) users.push(`process ${pid} (${await nameOf(pid)}) ${how}`);
  }
  return users.slice(0, usersMax);
}

/** A directory by its filesystem and the path in it: the same through every bind mount and in every namespace. */
interface Place {
  readonly device: string;
  readonly path: string;
}

function placeOf(directory: string, table: readonly MountEntry[]): Place | undefined {
  const on = table
    .filter(({ mountpoint }) => isInside(directory, mountpoint))
    .reduce<MountEntry | undefined>(
      (best, entry) => (best && best.mountpoint.length > entry.mountpoint.length ? best : entry),
      undefined,
    );
  if (!on) return undefined;
  const below = directory.slice(on.mountpoint === "/" ? 0 : on.mountpoint.length);
  return { device: deviceOf(on), path: `${on.root === "/" ? "" : on.root}${below}` || "/" };
}

function deviceOf({ deviceMajor, deviceMinor }: MountEntry): string {
  return `${deviceMajor}:${deviceMinor}`;
}

/** Mount points in `directory`, and those of overlays that have it among their directories. */
function mountUsers(directory: string, table: readonly MountEntry[]): string[] {
  const within = table.filter(({ mountpoint }) => isInside(mountpoint, directory));
  const overlays = overlaysIn(table).filter(({ lower, upper }) =>
    [...(lower?.split(":") ?? []), upper ?? ""].some((used) => used !== "" && isInside(used, directory)),
  );
  return [...new Set([...within, ...overlays].map(({ mountpoint }) => mountpoint))];
}

async function useOf(
  pid: string,
  directory: string,
  place: Place | undefined,
  own: string,
  seen: Set<string>,
): Promise<string | undefined> {
  // Processes come and go while we look: what cannot be read uses nothing.
  const link = (name: string) => readlink(`/proc/${pid}/${name}`).catch(() => "");
  const namespace = await link("ns/mnt");
  if (namespace === own) {
    if (isInside(await link("root"), directory)) return "has its root directory there";
    if (isInside(await link("cwd"), directory)) return "has its working directory there";
    if (isInside(await link("exe"), directory)) return "runs a program from there";
    return undefined;
  }
  // Another mount namespace: its paths say nothing here, its mounts do. One process tells for all of it.
  if (namespace === "" || seen.has(namespace) || place === undefined) return undefined;
  const table = await readFile(`/proc/${pid}/mountinfo`).then(parseMountTable, () => []);
  if (table.length > 0) seen.add(namespace);
  const mount = table.find((entry) => deviceOf(entry) === place.device && isInside(entry.root, place.path));
  if (mount) return `has it mounted at ${mount.mountpoint}`;
  const overlay = overlaysIn(table).find(({ lower }) =>
    lower?.split(":").some((used) => used !== "" && isInside(used, directory)),
  );
  return overlay && `has an overlay of it at ${overlay.mountpoint}`;
}

async function nameOf(pid: string): Promise<string> {
  const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a process chooses its own name
  return name.trim().replace(/[\x00-\x1f\x7f]/g, "?");
}
