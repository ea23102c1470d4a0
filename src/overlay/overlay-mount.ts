/**
 * Stacks a writable overlay on a read-only lower: prepares upper and work dir, seeds the upper, mounts.
 *
 * The steps, each undone in reverse order when a later one fails: root dir, merged dir, upper dir, lock, a look into
 * the mount table, tmpfs, the upper's mark, work dir, seeds, mount(2). The mount is usable when this returns. It belongs to the kernel
 * from then on, not to this process: the record is plain data, and `unmountOverlay` takes it in any later process.
 *
 * The lower is not touched but by mount(2), on the thread pool: it may be a FUSE mount that this very process serves.
 */
import { mkdir, readdir, realpath, rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import { haltAt } from "../base/halt.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { UndoStack } from "../base/undo-stack.js";
import { findMount } from "../fuse/mount-table.js";
import { UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageDirectories } from "./image-directories.js";
import { explainMountFailure, refuseOverlap } from "./mount-failure.js";
import { chooseOptions, type OverlayOption, overlayOptions } from "./mount-options.js";
import { metacopyIsOn } from "./overlay-table.js";
import { removeTree } from "./remove-tree.js";
import { defaultSeeds, type SeedDirectory } from "./seed-directory.js";
import { refuseUpperInUse, UpperLock } from "./upper-lock.js";
import { UpperMark } from "./upper-mark.js";
import { seedUpper } from "./upper-seed.js";

export type OverlayBinding = Pick<
  NativeBinding,
  "mount" | "umount" | "tryLock" | "getXattr" | "setXattr" | "setTimes"
>;

export interface MountOverlayOptions {
  /** The read-only tree, usually the FUSE mount of the image. */
  readonly lower: string;
  /** The same tree, as its index knows it. */
  readonly image: ImageDirectories;
  /** Of the image's manifest. An upper that holds changes to another one is refused; not known, it is not compared. */
  readonly manifestDigest?: string;
  /** Holds upper, work and merged where they are not given. Made (mode 0700) if it is not there. */
  readonly rootDir: string;
  /** The caller's upper dir, made if only its last name is missing. Its work dir lies beside it, named `<upper>.skim-work`. */
  readonly upper?: string;
  /** Upper and work on a tmpfs of our own: true for the kernel's default size, half of the memory. */
  readonly tmpfsUpper?: boolean | { readonly sizeBytes: number };
  /** Where to mount; an empty directory, made if only its last name is missing. */
  readonly merged?: string;
  /** To be there besides proc, sys, dev and tmp. */
  readonly directories?: readonly SeedDirectory[];
  /** Writes to the upper are never synced: faster, and after a crash of the machine the upper is refused. */
  readonly volatile?: boolean;
  readonly native: OverlayBinding;
  readonly logger?: Logger;
  readonly signal?: AbortSignal;
}

/** A mounted overlay. Plain data: may be written as JSON and unmounted by another process. */
export interface OverlayMount {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
  readonly rootDir: string;
  /** Mount point of our tmpfs that holds upper and work. */
  readonly tmpfs?: string;
  readonly lockFile: string;
  /** The upper is the caller's and stays, unless `unmountOverlay` is told otherwise. */
  readonly upperGiven: boolean;
  /** Directories that were made for this mount and are to be removed after it, as far as they are empty. */
  readonly madeDirectories: readonly string[];
  /** What is in force, and why. Not in records from before skim kept it. */
  readonly options?: readonly OverlayOption[];
}

/**
 * Mounts an overlay. Throws USAGE, IN_USE (the upper, or the merged dir), MOUNT_FAILED, ENVIRONMENT (no root, no
 * overlayfs), LOCAL_IO, CANCELLED; nothing is left then but what was there before.
 */
export async function mountOverlay(options: MountOverlayOptions): Promise<OverlayMount> {
  const undo = new UndoStack();
  return await undo.guard(async () => {
    let record: OverlayMount | undefined;
    try {
      if (options.upper !== undefined && options.tmpfsUpper) {
        throw new SkimError("USAGE", "an upper dir and a tmpfs upper exclude each other; give one of them");
      }
      options.signal?.throwIfAborted();
      const { places, removeUpper } = await makeDirectories(options, undo);
      record = places;
      const lock = await lockUpper(record, options, removeUpper);
      undo.defer(() => lock.abandon());
      undo.defer(removeUpper);
      await refuseMountsInUse(record);
      const mark = await prepareUpper(record, options, undo);
      haltAt("upper-seeded");
      options.signal?.throwIfAborted();
      record = { ...record, options: await stackOverlay(record, mark, options, undo) };
      haltAt("overlay-mounted");
      await lock.release();
      (options.logger ?? silentLogger).debug({ ...record, msg: "overlay mounted" });
      return record;
    } catch (cause) {
      // The reason has to be looked for while everything is still as it was: before anything is undone.
      throw await explainMountFailure(record, cause, options.signal);
    }
  });
}

/** Decides on all paths and makes the directories that are missing. */
async function makeDirectories(
  options: MountOverlayOptions,
  undo: UndoStack,
): Promise<{ places: OverlayMount; removeUpper: () => Promise<void> }> {
  const madeDirectories: string[] = [];
  const make = async (
    directory: string,
    onMade = (remove: () => Promise<void>) => undo.defer(remove),
  ): Promise<string> => {
    const made = await makeDirectory(directory);
    if (made) onMade(() => rmdir(directory));
    // Later processes compare paths with the mount table, which has no symlinks.
    const real = await realpath(directory);
    if (made) madeDirectories.unshift(real);
    return real;
  };
  const givenRoot = path.resolve(options.rootDir);
  await mkdir(path.dirname(givenRoot), { recursive: true });
  const rootDir = await make(givenRoot);
  const merged = await make(path.resolve(options.merged ?? path.join(rootDir, "merged")));
  const paths = { lower: path.resolve(options.lower), merged, rootDir };
  if (options.tmpfsUpper) {
    const tmpfs = await make(path.join(rootDir, "tmpfs"));
    const places = {
      ...paths,
      upper: path.join(tmpfs, "upper"),
      work: path.join(tmpfs, "work"),
      tmpfs,
      lockFile: lockFileOf(tmpfs),
      upperGiven: false,
      madeDirectories,
    };
    return { places, removeUpper: async () => {} };
  }
  let removeUpper = async () => {};
  const upper = await make(path.resolve(options.upper ?? path.join(rootDir, "upper")), (remove) => {
    removeUpper = remove;
  });
  const places = {
    ...paths,
    upper,
    work: workDirectoryOf(upper),
    lockFile: lockFileOf(upper),
    upperGiven: options.upper !== undefined,
    // The upper is removed with its content, or not at all.
    madeDirectories: madeDirectories.filter((directory) => directory !== upper),
  };
  return { places, removeUpper };
}

/** Who has the lock has the upper dir: somebody else's stays, also where it was made here a moment ago. */
async function lockUpper(
  places: OverlayMount,
  { native }: MountOverlayOptions,
  removeUpper: () => Promise<void>,
): Promise<UpperLock> {
  const { lockFile, upper, merged } = places;
  try {
    refuseOverlap(places);
    haltAt("upper-made");
    return await UpperLock.take(lockFile, upper, merged, native);
  } catch (error) {
    if (!isSkimError(error, "IN_USE")) await removeUpper();
    throw error;
  }
}

async function refuseMountsInUse(record: OverlayMount): Promise<void> {
  await refuseUpperInUse(record, { isOurs: !record.upperGiven });
  for (const target of [record.merged, record.tmpfs]) {
    if (target === undefined) continue;
    const mounted = findMount(target);
    if (mounted) {
      throw new SkimError("IN_USE", `${target} is a mount point already (${mounted.type}); unmount it first`);
    }
    const [first] = await readdir(target);
    if (first !== undefined) {
      throw new SkimError(
        "MOUNT_FAILED",
        `${target} is not empty (it has ${JSON.stringify(first)}), and a mount would hide that; use an empty directory`,
      );
    }
  }
}

/** Everything between the lock and mount(2): the tmpfs, a look at what the upper was made for, the work dir, the seeds. */
async function prepareUpper(
  record: OverlayMount,
  options: MountOverlayOptions,
  undo: UndoStack,
): Promise<UpperMark> {
  const { native } = options;
  const { upper, work, tmpfs } = record;
  if (tmpfs) {
    const size = typeof options.tmpfsUpper === "object" ? `,size=${options.tmpfsUpper.sizeBytes}` : "";
    await native.mount("skim-upper", tmpfs, "tmpfs", 0, `mode=0700${size}`);
    undo.defer(() => native.umount(tmpfs, UMOUNT_NOFOLLOW));
    await mkdir(upper, 0o755);
  }
  const mark = await UpperMark.read(upper, native);
  mark.requireImage(options.manifestDigest);
  // One that is there is what a crash left; the kernel cleans it, or refuses it where it was volatile.
  if (await makeDirectory(work)) undo.defer(() => removeTree(work));
  // Without trusted xattrs overlayfs mounts all the same, and fails when the container removes a directory.
  native.setXattr(Buffer.from(work), Buffer.from("trusted.skim.probe"), Buffer.from("y"));
  options.signal?.throwIfAborted();
  const directories = [...defaultSeeds, ...(options.directories ?? [])];
  const { image, logger } = options;
  const staging = path.join(work, "seed");
  undo.defer(await seedUpper({ upper, staging, image, directories, native, ...(logger ? { logger } : {}) }));
  return mark;
}

/**
 * Marks the upper and mounts, with metacopy, or without where the kernel does not do that: it refuses an option that it does not know
 * (EINVAL, before Linux 4.19), and turns it off with a line in its log where it cannot write its xattrs. Resolves to what is in force.
 */
async function stackOverlay(
  record: OverlayMount,
  mark: UpperMark,
  options: MountOverlayOptions,
  undo: UndoStack,
): Promise<readonly OverlayOption[]> {
  const { native, manifestDigest, volatile = false, logger = silentLogger } = options;
  const { merged } = record;
  const wanted = chooseOptions({ volatile, metacopy: true });
  const withoutMetacopy = chooseOptions({ volatile, metacopy: false });
  const mount = async (chosen: readonly OverlayOption[]) => {
    const optionText = overlayOptions(record, volatile, chosen);
    mark.write(manifestDigest, chosen);
    await native.mount("skim-overlay", merged, "overlay", 0, optionText);
    undo.defer(() => native.umount(merged, UMOUNT_NOFOLLOW));
  };
  undo.defer(() => mark.restore());
  try {
    await mount(wanted);
    if (metacopyIsOn(merged)) return wanted;
    // The kernel does not read the mark, so it may change below the overlay.
    mark.write(manifestDigest, withoutMetacopy);
  } catch (cause) {
    if (systemErrorCode(cause) !== "EINVAL") throw cause;
    // Where metacopy was not the reason, it is the first failure that has to be explained.
    await mount(withoutMetacopy).catch(() => {
      throw cause;
    });
  }
  mark.requireOptions(withoutMetacopy);
  logger.warn({ merged, msg: "no metacopy on this kernel: chown and chmod fetch whole files of the image" });
  return withoutMetacopy;
}

/** Beside the upper: overlayfs wants both on one mount, and neither in the other. */
export function workDirectoryOf(upper: string): string {
  return `${upper}.skim-work`;
}

function lockFileOf(directory: string): string {
  return `${directory}.skim-lock`;
}

/** True where it was made (mode 0700: what is in it may be setuid), false where it was there. Throws MOUNT_FAILED for anything else. */
async function makeDirectory(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, 0o700);
    return true;
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === "EEXIST" && (await stat(directory)).isDirectory()) return false;
    if (code === "EEXIST" || code === "ENOTDIR") {
      throw new SkimError("MOUNT_FAILED", `${directory} is not a directory; remove it or use another path`, {
        cause,
      });
    }
    if (code === "ENOENT") {
      throw new SkimError(
        "MOUNT_FAILED",
        `${directory} cannot be made: ${path.dirname(directory)} is not there; make it first`,
        { cause },
      );
    }
    throw cause;
  }
}
