import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { SkimError } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";

/** A lock on a file, which ends with the process at the latest. */
export interface FileLock {
  /** The file that is locked; it stays when the lock is let go. */
  readonly handle: FileHandle;
  release(): Promise<void>;
}

/**
 * Looks for the lock are this far apart: flock(2) that waits would hold one of the four threads of libuv's pool, and eight waiting
 * unpacks all of them.
 */
const lookIntervalMsMax = 50;

/**
 * Waits for the lock on `file`, which is made where it is missing and must not be removed while it has users. Throws CANCELLED, and
 * what open(2) says.
 */
export async function lockFile(
  file: string,
  native: Pick<NativeBinding, "tryLock">,
  signal?: AbortSignal,
): Promise<FileLock> {
  const handle = await open(file, "a+", 0o600);
  try {
    for (let waitMs = 2; !native.tryLock(handle.fd, true); waitMs = Math.min(waitMs * 2, lookIntervalMsMax)) {
      if (signal?.aborted) throw cancelled(file, signal);
      await sleep(waitMs, undefined, signal ? { signal } : {}).catch(() => {});
    }
    return { handle, release: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** As lockFile; undefined at once where somebody else has the lock. */
export async function tryLockFile(
  file: string,
  native: Pick<NativeBinding, "tryLock">,
): Promise<FileLock | undefined> {
  const handle = await open(file, "a+", 0o600);
  if (native.tryLock(handle.fd, true)) return { handle, release: () => handle.close() };
  await handle.close();
  return undefined;
}

function cancelled(file: string, signal: AbortSignal): SkimError {
  return new SkimError("CANCELLED", `waiting for the lock ${file} was cancelled`, { cause: signal.reason });
}
