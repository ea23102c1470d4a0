import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { promisify } from "node:util";
import { SkimError } from "../base/errors.js";
import { readMountTable } from "../fuse/mount-table.js";
import { isInside } from "./overlay-table.js";

const run = promisify(execFile);

/**
 * Removes directories with everything in them; what is not there is fine. Throws LOCAL_IO. Nobody else may write in them meanwhile.
 *
 * What node's fs.rm cannot remove is left to rm(1): a container can make paths deeper than PATH_MAX. So is whatever has another filesystem mounted in
 * it: rm, as told here, does not cross into that. Neither follows links. (Starting rm takes ten times as long as removing what a container has not written to.)
 */
export async function removeTree(...directories: string[]): Promise<void> {
  try {
    const holdsMount = readMountTable().some(({ mountpoint }) =>
      directories.some((directory) => isInside(mountpoint, directory)),
    );
    if (!holdsMount && (await removed(directories))) return;
    await run("rm", ["-rf", "--one-file-system", "--", ...directories]);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `${directories.join(" and ")} cannot be removed`, { cause });
  }
}

async function removed(directories: readonly string[]): Promise<boolean> {
  try {
    for (const directory of directories) await rm(directory, { recursive: true, force: true });
    return true;
  } catch {
    return false;
  }
}
