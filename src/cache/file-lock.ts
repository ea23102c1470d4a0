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

export type LockNative = Pick<NativeBinding, "tryLock">;

/**
 * Looks for the lock are this far apart: flock(2) that waits would hold one of the four threads of libuv's pool, and eight waiting
 * unpacks all of them.
 */
const lookIntervalMsMax = 50;

export interface LockWait {
  readonly exclusive: boolean;
  /** Default: for ever. */
  readonly waitMsMax?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Waits for the lock on an open file. False where others held it for `waitMsMax`, or the signal fired. Throws what flock(2) says. */
export async function waitForLock(handle: FileHandle, native: LockNative, wait: LockWait): Promise<boolean> {
  const { signal } = wait;
  const giveUpMs = performance.now() + (wait.waitMsMax ?? Number.POSITIVE_INFINITY);
  for (let waitMs = 2; !native.tryLock(handle.fd, wait.exclusive); ) {
    if (signal?.aborted || performance.now() >= giveUpMs) return false;
    await sleep(waitMs, undefined, signal ? { signal } : {}).catch(() => {});
    waitMs = Math.min(waitMs * 2, lookIntervalMsMax);
  }
  return true;
}

/**
 * Waits for the lock on `file`, which is made where it is missing and must not be removed while it has users. Throws CANCELLED, and
 * what open(2) says.
 */
export async function lockFile(file: string, native: LockNative, signal?: AbortSignal): Promise<FileLock> {
  const handle = await open(file, "a+", 0o600);
  try {
    if (await waitForLock(handle, native, { exclusive: true, signal }))
      return { handle, release: () => handle.close() };
    throw new SkimError("CANCELLED", `waiting for the lock ${file} was cancelled`, { cause: signal?.reason });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** As lockFile; undefined at once where somebody else has the lock. */
export async function tryLockFile(file: string, native: LockNative): Promise<FileLock | undefined> {
  const handle = await open(file, "a+", 0o600);
  if (native.tryLock(handle.fd, true)) return { handle, release: () => handle.close() };
  await handle.close();
  return undefined;
}
