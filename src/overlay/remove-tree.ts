import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { SkimError } from "../base/errors.js";

const run = promisify(execFile);

/**
 * Removes directories with everything in them; what is not there is fine. Throws LOCAL_IO.
 *
 * By rm(1): a container can make paths deeper than PATH_MAX, which node's fs.rm cannot remove, and rm neither follows
 * links nor, as told here, crosses into another filesystem.
 */
export async function removeTree(...directories: string[]): Promise<void> {
  try {
    await run("rm", ["-rf", "--one-file-system", "--", ...directories]);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `${directories.join(" and ")} cannot be removed`, { cause });
  }
}
