/**
 * Who keeps a mount busy: for the error that says it cannot be unmounted.
 *
 * Looks only at /proc, and there only at links and fdinfo, which the kernel answers without taking a process's memory lock. Reading
 * `maps` could wait for a process that waits, in a page fault, for this one to serve it.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type MountEntry, readMountTable } from "./mount-table.js";

/** Enough to see what is going on; the search ends there. */
const holdersMax = 5;

/**
 * Up to five sentences such as `process 123 (cat) has a file open`. Empty where none is found: the holder may be in another mount
 * namespace or belong to somebody else. Blocks for a look at every process: for errors only.
 */
export function findMountHolders(mount: MountEntry): string[] {
  const holders: string[] = [];
  for (const other of readMountTable()) {
    if (other.parentId === mount.id) holders.push(`${other.type} is mounted on ${other.mountpoint}`);
    else if (other.superOptions.some((option) => isLowerOption(option, mount.mountpoint)))
      holders.push(`the overlay on ${other.mountpoint} has it as a lower directory`);
  }
  for (const pid of numericNames("/proc")) {
    if (holders.length >= holdersMax) break;
    const how = howHeld(`/proc/${pid}`, mount);
    if (how) holders.push(`process ${pid} (${read(`/proc/${pid}/comm`).trim()}) ${how}`);
  }
  return holders.slice(0, holdersMax);
}

function isLowerOption(option: string, mountpoint: string): boolean {
  const [key, value = ""] = option.split(/=(.*)/s, 2);
  if (key !== "lowerdir" && key !== "lowerdir+") return false;
  return value.split(":").some((lower) => isWithin(lower, mountpoint));
}

function howHeld(processDirectory: string, mount: MountEntry): string | undefined {
  if (isWithin(readLink(`${processDirectory}/root`), mount.mountpoint)) return "has its root directory there";
  if (isWithin(readLink(`${processDirectory}/cwd`), mount.mountpoint))
    return "has its working directory there";
  if (isWithin(readLink(`${processDirectory}/exe`), mount.mountpoint)) return "runs a program from there";
  for (const fd of numericNames(`${processDirectory}/fd`)) {
    if (new RegExp(`^mnt_id:\\s+${mount.id}$`, "m").test(read(`${processDirectory}/fdinfo/${fd}`)))
      return "has a file open";
  }
  return undefined;
}

function isWithin(target: string, directory: string): boolean {
  return target === directory || target.startsWith(`${directory}/`);
}

// Processes come and go while we look: what cannot be read holds nothing.
function read(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return "";
  }
}
function readLink(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
}
function numericNames(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}
