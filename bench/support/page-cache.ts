/** The kernel's page cache of chosen files: dropped where something is to be cold, while programs and the registry's blobs stay as warm as they are. */
import { run } from "./processes.js";

/** Writes back what is dirty, and drops the pages of a file or of all files below a directory (posix_fadvise, by dd). */
export async function dropPages(fileOrDirectory: string, signal: AbortSignal): Promise<void> {
  await run("sync", [], { signal });
  const drop = ["dd", "if={}", "iflag=nocache", "count=0", "status=none"];
  await run("find", [fileOrDirectory, "-type", "f", "-exec", ...drop, ";"], { signal });
}

/** Reads files into the page cache, all of them. */
export async function readPages(directory: string, signal: AbortSignal): Promise<void> {
  await run("find", [directory, "-type", "f", "-exec", "cat", "{}", "+"], { signal, discard: true });
}
