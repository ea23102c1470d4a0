/** Whether anybody has written to a writable layer: what skim seeds and what a runtime makes for its mounts is no work of anybody's. */
import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import path from "node:path";
import { systemErrorCode } from "../base/errors.js";

/**
 * True from the first thing that is neither a directory nor an empty file: seeds are directories, and runtimes make empty files where they bind
 * resolv.conf and its like. A layer that cannot be read holds changes.
 */
export async function holdsChanges(upper: string): Promise<boolean> {
  let entries: Dirent[];
  try {
    entries = await readdir(upper, { withFileTypes: true });
  } catch (error) {
    return systemErrorCode(error) !== "ENOENT";
  }
  for (const entry of entries) {
    const file = path.join(upper, entry.name);
    if (entry.isDirectory()) {
      if (await holdsChanges(file)) return true;
    } else if (!entry.isFile() || (await lstat(file)).size > 0) return true;
  }
  return false;
}
