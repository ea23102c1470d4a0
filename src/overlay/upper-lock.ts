/**
 * Keeps an upper dir from being used twice, which overlayfs allows (with a line in the kernel log) and which ruins it.
 *
 * What is in use, the mount table says. The lock file only closes the race between two processes that both find the
 * upper free: it is held from that look until the mount is in the table, or, while unmounting, until everything is removed. It lies
 * beside the upper, never in it, and says who mounted. It may be left by a crash; then it means nothing.
 */
import { type FileHandle, open, readFile, stat, unlink } from "node:fs/promises";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import { overlaysIn } from "./overlay-table.js";

/** Each turn means that the holder before removed the file between our open and our lock. */
const lockTurnsMax = 100;

export class UpperLock {
  readonly #file: string;
  readonly #handle: FileHandle;
  /** What the holder before left in the file. */
  readonly #before: string;

  private constructor(file: string, handle: FileHandle, before: string) {
    this.#file = file;
    this.#handle = handle;
    this.#before = before;
  }

  /** Takes the lock of `upper` or throws IN_USE at once. `merged` is noted for whoever finds the lock taken. */
  static async take(
    lockFile: string,
    upper: string,
    merged: string,
    native: Pick<NativeBinding, "tryLock">,
  ): Promise<UpperLock> {
    for (let turn = 0; turn < lockTurnsMax; turn++) {
      const handle = await open(lockFile, "a+", 0o600);
      try {
        if (!native.tryLock(handle.fd, true)) {
          throw new SkimError(
            "IN_USE",
            `upper dir ${upper} is being mounted or unmounted by ${await holderText(lockFile)}; try again when it is done`,
          );
        }
        if (await isSameFile(handle, lockFile)) {
          const lock = new UpperLock(lockFile, handle, await readFile(lockFile, "utf8"));
          await lock.#note(`${process.pid} ${merged}\n`);
          return lock;
        }
      } catch (error) {
        await handle.close();
        throw error;
      }
      await handle.close();
    }
    throw new SkimError("IN_USE", `lock ${lockFile} changes hands all the time; see who mounts ${upper}`);
  }

  /** Lets go; the file stays for as long as the mount. */
  async release(): Promise<void> {
    await this.#handle.close();
  }

  /** Lets go and leaves the file as it was found: another mount's, or none. */
  async abandon(): Promise<void> {
    if (this.#before === "") return this.remove();
    try {
      await this.#note(this.#before);
    } finally {
      await this.#handle.close();
    }
  }

  /** Removes the file, then lets go. */
  async remove(): Promise<void> {
    try {
      await unlink(this.#file);
    } catch (cause) {
      if (systemErrorCode(cause) !== "ENOENT") throw cause;
    } finally {
      await this.#handle.close();
    }
  }

  async #note(text: string): Promise<void> {
    await this.#handle.truncate(0);
    await this.#handle.write(text);
  }
}

/**
 * Throws IN_USE naming the mount where an overlay has `upper` or `work` as its upper or work dir. `isOurs`: in a directory that nobody else has, so that it has no
 * other name, and one stat(2) for each overlay of the host is spared.
 */
export async function refuseUpperInUse(
  paths: { readonly upper: string; readonly work: string },
  { isOurs }: { readonly isOurs: boolean },
): Promise<void> {
  const ours = isOurs ? [] : await Promise.all([paths.upper, paths.work].map(fileIdentity));
  for (const overlay of overlaysIn()) {
    for (const used of [overlay.upper, overlay.work]) {
      if (used === undefined) continue;
      const same =
        used === paths.upper ||
        used === paths.work ||
        (!isOurs && used.startsWith("/") && ours.includes((await fileIdentity(used)) ?? "nothing there"));
      if (same) {
        throw new SkimError(
          "IN_USE",
          `upper dir ${paths.upper} is in use by the overlay at ${overlay.mountpoint}; unmount that first, or choose another upper dir`,
        );
      }
    }
  }
}

/** The same directory can be named through a bind mount or a symlink. */
async function fileIdentity(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path, { bigint: true });
    return `${found.dev}:${found.ino}`;
  } catch {
    return undefined;
  }
}

async function isSameFile(handle: FileHandle, path: string): Promise<boolean> {
  const held = await handle.stat({ bigint: true });
  const named = await fileIdentity(path);
  return named === `${held.dev}:${held.ino}`;
}

async function holderText(lockFile: string): Promise<string> {
  const text = await readFile(lockFile, "utf8").catch(() => "");
  const [, pid, merged] = /^(\d+) (.*)\n/s.exec(text) ?? [];
  return pid ? `process ${pid} (for ${merged})` : "another process";
}
