/**
 * Where an image is unpacked to: a tree is built beside the directory and takes its name when it is complete, so that the directory is as it was
 * until then, whatever happens. Only one process at a time builds for a directory.
 */
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, realpath, rename, stat } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { type FileLock, lockFile } from "../cache/file-lock.js";
import { findMount } from "../fuse/mount-table.js";
import type { NativeBinding } from "../native/binding.js";
import { removeTree } from "../overlay/remove-tree.js";
import { findDirectoryUsers } from "./directory-users.js";
import { besideName, type NewStamp, readStamp, type Stamp, stampFile, writeStamp } from "./stamp.js";

/**
 * The true path of the directory to unpack into. It need not be there, its parent must. Throws NOT_FOUND without a parent, USAGE for what is no
 * directory.
 */
export async function resolveDestination(directory: string): Promise<string> {
  const wanted = path.resolve(directory);
  // A link is followed here, once: what it leads to is what gets replaced.
  const found = await stat(wanted).catch(absent);
  if (found && !found.isDirectory())
    throw new SkimError("USAGE", `cannot unpack into ${wanted}: it is not a directory`);
  if (found) return await realpath(wanted);
  const entry = await lstat(wanted).catch(absent);
  if (entry?.isSymbolicLink())
    throw new SkimError("USAGE", `cannot unpack into ${wanted}: it is a symbolic link to nowhere`);
  // Another process has just put it there.
  if (entry) return await resolveDestination(directory);
  const parent = await realpath(path.dirname(wanted)).catch((cause: unknown) => {
    throw new SkimError(
      "NOT_FOUND",
      `cannot unpack into ${wanted}: no directory ${path.dirname(wanted)}; make it first`,
      { cause },
    );
  });
  return path.join(parent, path.basename(wanted));
}

/** A tree that is being built for a directory. */
export class Destination {
  readonly directory: string;
  readonly #native: Pick<NativeBinding, "exchangeNames">;
  readonly #lock: FileLock;
  #work: string | undefined;

  private constructor(directory: string, native: Pick<NativeBinding, "exchangeNames">, lock: FileLock) {
    this.directory = directory;
    this.#native = native;
    this.#lock = lock;
  }

  /**
   * Takes `directory` (as resolveDestination gives it) over, when nobody else builds for it. Throws IN_USE for a mount point, LOCAL_IO where nothing
   * can be written beside it, CANCELLED.
   */
  static async take(
    directory: string,
    native: Pick<NativeBinding, "exchangeNames" | "tryLock">,
    signal?: AbortSignal,
  ): Promise<Destination> {
    if (directory === "/" || findMount(directory))
      throw new SkimError(
        "IN_USE",
        `cannot unpack into ${directory}: it is a mount point, and cannot be replaced; name a directory below it`,
      );
    try {
      return new Destination(directory, native, await lockFile(stampFile(directory), native, signal));
    } catch (cause) {
      if (systemErrorCode(cause) === undefined || cause instanceof SkimError) throw cause;
      throw new SkimError(
        "LOCAL_IO",
        `cannot unpack into ${directory}: nothing can be written beside it: ${systemErrorCode(cause)}`,
        { cause },
      );
    }
  }

  /** What is there already; undefined where no unpack made it, or nothing is there. */
  async stamp(): Promise<Stamp | undefined> {
    return await readStamp(this.directory);
  }

  /**
   * Checks that what is at the directory may be replaced: nothing, an empty directory, or one that was unpacked and has no users. Throws USAGE
   * and IN_USE.
   */
  async requireReplaceable(): Promise<void> {
    const names = await readdir(this.directory).catch(absent);
    if (names === undefined || (names.length === 0 && !(await this.stamp()))) return;
    if (!(await this.stamp()))
      throw new SkimError(
        "USAGE",
        `cannot unpack into ${this.directory}: it is not empty, and was not made by skim unpack; remove it, or name another directory`,
      );
    const users = await findDirectoryUsers(this.directory);
    if (users.length === 0) return;
    throw new SkimError(
      "IN_USE",
      `cannot unpack another image into ${this.directory}: ${users.join("; ")}; end them first, or name another directory`,
    );
  }

  /** Makes an empty directory for the tree, and gives a name for a staging directory beside it. Removes what killed processes have left. */
  async begin(): Promise<{ readonly root: string; readonly staging: string }> {
    await removeTree(...(await this.#leftovers()));
    const work = path.join(
      path.dirname(this.directory),
      `${besideName(this.directory)}.${randomBytes(6).toString("hex")}.tmp`,
    );
    await mkdir(work, { mode: 0o700 });
    this.#work = work;
    const root = path.join(work, "root");
    await mkdir(root, { mode: 0o700 });
    return { root, staging: path.join(work, "staging") };
  }

  /** The tree, complete, takes the directory's place, with its stamp; what was there is removed. */
  async finish(stamp: NewStamp): Promise<void> {
    const root = path.join(this.#work!, "root");
    await this.requireReplaceable();
    await writeStamp(this.#lock.handle, this.directory, root, stamp);
    try {
      // An empty directory is replaced, too: rename(2).
      await rename(root, this.directory);
    } catch (error) {
      if (!["ENOTEMPTY", "EEXIST"].includes(systemErrorCode(error) ?? "")) throw error;
      await this.#exchange(root);
    }
  }

  /** Removes what is left of building, and lets others in. To be called in any case. */
  async release(): Promise<void> {
    try {
      if (this.#work) await removeTree(this.#work);
    } finally {
      await this.#lock.release();
    }
  }

  async #exchange(root: string): Promise<void> {
    try {
      this.#native.exchangeNames(Buffer.from(root), Buffer.from(this.directory));
    } catch (error) {
      if (systemErrorCode(error) !== "EINVAL" && systemErrorCode(error) !== "ENOSYS") throw error;
      // A filesystem that cannot do it in one step: for a moment the directory is not there.
      const before = path.join(this.#work!, "before");
      await rename(this.directory, before);
      await rename(root, this.directory).catch(async (failure: unknown) => {
        await rename(before, this.directory);
        throw failure;
      });
    }
  }

  async #leftovers(): Promise<string[]> {
    const parent = path.dirname(this.directory);
    const prefix = `${besideName(this.directory)}.`;
    const names = await readdir(parent);
    return names
      .filter((name) => name.startsWith(prefix) && name.endsWith(".tmp"))
      .map((name) => path.join(parent, name));
  }
}

function absent(error: unknown): undefined {
  if (systemErrorCode(error) === "ENOENT") return undefined;
  throw error;
}
