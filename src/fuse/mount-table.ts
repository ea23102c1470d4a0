/**
 * What is mounted where, as the kernel lists it in /proc/self/mountinfo (proc_pid_mountinfo(5)).
 *
 * Reading the table never touches a mount, so it is the safe way to look at one whose server may be dead, or may be this process:
 * stat(2) on such a mount point hangs or deadlocks.
 */
import { readFileSync } from "node:fs";

export interface MountEntry {
  /** Unique among what is mounted now; used again after it is unmounted. */
  readonly id: number;
  readonly parentId: number;
  /** Of the filesystem, as st_dev has it. */
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** The directory of the filesystem that is mounted. */
  readonly root: string;
  /** Absolute, as seen from this process's root directory. */
  readonly mountpoint: string;
  /** Of this mount: ro, nosuid, nodev, ... */
  readonly options: readonly string[];
  /** E.g. `fuse.skim`, `overlay`. */
  readonly type: string;
  readonly source: string;
  /** Of the filesystem; for an overlay: lowerdir=... (with the kernel's own escapes left in). */
  readonly superOptions: readonly string[];
}

/** All mounts of this process's mount namespace, in the kernel's order. Blocks for a read of procfs. */
export function readMountTable(): MountEntry[] {
  return parseMountTable(readFileSync("/proc/self/mountinfo"));
}

/** Those at exactly `mountpoint`. On a host with hundreds of mounts parsing them all takes a millisecond. */
export function mountsAt(mountpoint: string): MountEntry[] {
  const field = ` ${escapeMountpoint(mountpoint)} `;
  const table = parseMountTable(readFileSync("/proc/self/mountinfo"), (line) => line.includes(field));
  return table.filter((entry) => entry.mountpoint === mountpoint);
}

/** Those of a filesystem type, which is a word. */
export function mountsOfType(type: string): MountEntry[] {
  const field = ` - ${type} `;
  const table = parseMountTable(readFileSync("/proc/self/mountinfo"), (line) => line.includes(field));
  return table.filter((entry) => entry.type === type);
}

/**
 * The mount that is seen at `mountpoint` (absolute, without symlinks, `.`, `..` or a trailing slash): the topmost where several lie on each
 * other. Undefined where nothing is mounted at exactly that path.
 */
export function findMount(
  mountpoint: string,
  table: readonly MountEntry[] = mountsAt(mountpoint),
): MountEntry | undefined {
  const here = table.filter((entry) => entry.mountpoint === mountpoint);
  // What lies on another mount has that one as its parent.
  const covered = new Set(here.map((entry) => entry.parentId));
  return here.findLast((entry) => !covered.has(entry.id)) ?? here.at(-1);
}

/** Parses the text of a mountinfo file, or the lines of it that `wanted` takes. Lines of an unknown form are left out. */
export function parseMountTable(
  bytes: Uint8Array,
  wanted: (line: string) => boolean = () => true,
): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    .toString("latin1")
    .split("\n")) {
    if (!wanted(line)) continue;
    // id parent major:minor root mountpoint options [optional fields] - type source superoptions
    const fields = line.split(" ");
    const separator = fields.indexOf("-", 6);
    const [id, parentId, device, root, mountpoint, options] = fields;
    if (separator < 0 || mountpoint === undefined || options === undefined) continue;
    const [major, minor] = (device ?? "").split(":");
    entries.push({
      id: Number(id),
      parentId: Number(parentId),
      deviceMajor: Number(major),
      deviceMinor: Number(minor),
      root: unescapeField(root ?? ""),
      mountpoint: unescapeField(mountpoint),
      options: options.split(","),
      type: unescapeField(fields[separator + 1] ?? ""),
      source: unescapeField(fields[separator + 2] ?? ""),
      superOptions: unescapeField(fields[separator + 3] ?? "").split(","),
    });
  }
  return entries;
}

/** Space, tab, newline, backslash and # are written as \ooo (fs/seq_file.c, mangle_path). */
function unescapeField(field: string): string {
  const raw = field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(raw, "latin1").toString("utf8");
}

/** A mount point as the table has it, one character a byte. (Sources have # escaped as well; fs/proc_namespace.c, show_mountinfo.) */
function escapeMountpoint(text: string): string {
  return Buffer.from(text)
    .toString("latin1")
    .replace(/[ \t\n\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`);
}
