import { isSkimError, SkimError, systemErrorCode } from "../base/errors.js";

/** A failure of the store of extracted layers that says nothing about the image: extracting into the destination may go well. */
export class LayerStoreError extends SkimError {
  constructor(file: string, cause: unknown) {
    super(
      "LOCAL_IO",
      `the store of extracted layers cannot be used: ${systemErrorCode(cause) ?? "error"} at ${file}; choose another --cache-dir, or --mode extract`,
      { cause },
    );
  }
}

/** What the other mode would meet as well: the disk is as full, the quota as used up. */
const sharedFailures: ReadonlySet<string | undefined> = new Set([
  "ENOSPC",
  "EDQUOT",
  "EFBIG",
  "EIO",
  "ENOMEM",
]);

/** Runs `work` on `file` of the store, and gives what the system refuses there its name. */
export async function inStore<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = systemErrorCode(error);
    const isSystem = error instanceof Error && "syscall" in error && !isSkimError(error);
    if (!isSystem) throw error;
    if (!sharedFailures.has(code)) throw new LayerStoreError(file, error);
    const remedy = code === "ENOSPC" || code === "EDQUOT" ? "; make room, or choose another --cache-dir" : "";
    throw new SkimError("LOCAL_IO", `cannot write ${file}: ${code}${remedy}`, { cause: error });
  }
}
