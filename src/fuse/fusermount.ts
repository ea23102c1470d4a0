import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Unmounts as somebody who is not root: with the setuid program that libfuse mounted with. False where that fails. */
export async function fusermountUnmount(mountpoint: string, detach: boolean): Promise<boolean> {
  for (const program of ["fusermount3", "fusermount"]) {
    try {
      await promisify(execFile)(program, ["-u", ...(detach ? ["-z"] : []), "--", mountpoint]);
      return true;
    } catch {
      // Not there, or not able to: the next one, then the caller's error.
    }
  }
  return false;
}
