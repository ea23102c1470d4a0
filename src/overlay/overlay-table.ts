/**
 * The overlays in a mount table: the only truth about which upper dirs are in use, since mounts outlive the processes that made them.
 */
import { readFileSync } from "node:fs";
import { type MountEntry, mountsAt, mountsOfType } from "../fuse/mount-table.js";

/** Y or N: what the kernel does where no option says otherwise. */
const metacopyDefaultFile = "/sys/module/overlay/parameters/metacopy";

export interface OverlayEntry extends MountEntry {
  /** As they were given to mount(2), without their escapes: mostly, but not necessarily, absolute paths. */
  readonly lower: string | undefined;
  readonly upper: string | undefined;
  readonly work: string | undefined;
  /** on or off, where that is not the kernel's default. */
  readonly metacopy: string | undefined;
}

/** The overlays among `table`, default: what this process sees. */
export function overlaysIn(table: readonly MountEntry[] = mountsOfType("overlay")): OverlayEntry[] {
  return table
    .filter((entry) => entry.type === "overlay")
    .map((entry) => {
      const options = splitOptions(entry.superOptions.join(","));
      return {
        ...entry,
        lower: options.get("lowerdir"),
        upper: options.get("upperdir"),
        work: options.get("workdir"),
        metacopy: options.get("metacopy"),
      };
    });
}

/** Whether the overlay at `merged` does metacopy: the kernel turns it off where it cannot. */
export function metacopyIsOn(merged: string): boolean {
  const listed = overlaysIn(mountsAt(merged)).at(-1)?.metacopy;
  if (listed !== undefined) return listed === "on";
  try {
    return readFileSync(metacopyDefaultFile, "latin1").startsWith("Y");
  } catch {
    return false;
  }
}

/** True where `path` is `directory` or below it. Both absolute and normal. */
export function isInside(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

/** Splits at commas that have no backslash before them, and takes the backslashes away (ovl_next_opt and ovl_unescape of the kernel). */
function splitOptions(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const [option] of text.matchAll(/(?:\\.|[^,\\])+/gs)) {
    const equals = option.indexOf("=");
    if (equals > 0) options.set(option.slice(0, equals), option.slice(equals + 1).replace(/\\(.)/gs, "$1"));
  }
  return options;
}
