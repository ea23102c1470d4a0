/**
 * Takes an overlay down: the way back of overlay-mount.ts, from its record alone. It looks at what is there instead of trusting that
 * earlier steps were done, so it can be called again after a failure, a crash or a success.
 *
 * Nothing is removed as long as anybody can still write to it: a container in another mount namespace keeps the overlay alive
 * when it is gone from this one. Such holders are named (IN_USE), and a later call goes on where this one stopped.
 */
import { rmdir } from "node:fs/promises";
import path from "node:path";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import { haltAt } from "../base/halt.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { findMountHolders } from "../fuse/mount-holders.js";
import { findMount, mountsAt } from "../fuse/mount-table.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import { findOverlayHolders, type OverlayHolder } from "./overlay-holders.js";
import { type OverlayBinding, type OverlayMount, workDirectoryOf } from "./overlay-mount.js";
import { overlaysIn } from "./overlay-table.js";
import { removeTree } from "./remove-tree.js";
import { refuseUpperInUse, UpperLock } from "./upper-lock.js";

/** In a message; more are left out. */
const holdersNamedMax = 5;

export interface UnmountOverlayOptions {
  /** Default: an upper that the caller gave stays, another one goes. */
  readonly keepUpper?: boolean;
  /** Detach although somebody uses it: they go on in a tree whose upper is removed under them. */
  readonly lazy?: boolean;
  readonly native: OverlayBinding;
  readonly logger?: Logger;
}

/**
 * Unmounts and removes everything that belonged to the mount. Resolves to the upper dir where it was kept.
 * Throws IN_USE naming who holds it, USAGE where a tmpfs upper is to be kept, MOUNT_FAILED, LOCAL_IO.
 */
export async function unmountOverlay(
  record: OverlayMount,
  options: UnmountOverlayOptions,
): Promise<{ upper: string | undefined }> {
  const keepUpper = options.keepUpper ?? record.upperGiven;
  if (keepUpper && record.tmpfs) {
    throw new SkimError(
      "USAGE",
      `upper dir ${record.upper} is on a tmpfs of the mount and goes with it; copy what you need, then unmount without keeping it`,
    );
  }
  checkRecord(record);
  const lock = await takeLock(record, options);
  if (lock) {
    try {
      await unmountMerged(record, options);
      haltAt("overlay-unmounted");
      await refuseUpperInUse(record, { isOurs: !record.upperGiven });
      await removeUpper(record, keepUpper, options);
      await lock.remove();
    } catch (error) {
      await lock.abandon();
      throw error;
    }
  } else await unmountMerged(record, options);
  for (const directory of record.madeDirectories) await removeIfEmpty(directory);
  (options.logger ?? silentLogger).debug({ merged: record.merged, keepUpper, msg: "overlay unmounted" });
  return { upper: keepUpper ? record.upper : undefined };
}

/** Undefined where the directory that held everything is gone: then there is no upper, and nobody else can mount it. */
async function takeLock(
  { lockFile, upper, merged }: OverlayMount,
  { native }: UnmountOverlayOptions,
): Promise<UpperLock | undefined> {
  try {
    return await UpperLock.take(lockFile, upper, merged, native);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function unmountMerged(record: OverlayMount, options: UnmountOverlayOptions): Promise<void> {
  const { merged, upper } = record;
  const mounted = overlaysIn(mountsAt(merged)).some((overlay) => overlay.upper === upper);
  if (options.lazy) {
    if (mounted) await unmount(merged, MNT_DETACH, options.native);
    return;
  }
  // A container has it as its root. A copy at the same place is only what every new mount namespace starts with (a container that is
  // just being made, a service with a namespace of its own): nobody uses it, and some keep theirs for as long as they live.
  const holders = findOverlayHolders(upper);
  refuseHolders(
    record,
    holders.filter((holder) => holder.mountpoint !== merged),
  );
  if (mounted) await unmount(merged, 0, options.native);
}

async function unmount(
  target: string,
  flags: number,
  native: OverlayBinding,
  mayTryAgain = true,
): Promise<void> {
  try {
    await native.umount(target, flags | UMOUNT_NOFOLLOW);
  } catch (cause) {
    if (systemErrorCode(cause) !== "EBUSY") {
      throw new SkimError("MOUNT_FAILED", `${target} cannot be unmounted`, { cause });
    }
    const mount = findMount(target);
    const holders = mount ? findMountHolders(mount) : [];
    // Somebody who looked at it for a moment (df, another umount) and is gone since.
    if (holders.length === 0 && mayTryAgain) return await unmount(target, flags, native, false);
    const who = holders.join("; ") || "somebody whom /proc does not show";
    throw new SkimError("IN_USE", `${target} is in use: ${who}; end that, then unmount again`, { cause });
  }
}

function refuseHolders({ merged }: OverlayMount, holders: readonly OverlayHolder[]): void {
  if (holders.length === 0) return;
  const named = holders
    .slice(0, holdersNamedMax)
    .map(({ pid, name, mountpoint }) => `process ${pid} (${name}) has it mounted on ${mountpoint}`);
  throw new SkimError(
    "IN_USE",
    `overlay at ${merged} is in use in another mount namespace: ${named.join("; ")}; end that container, then unmount again`,
  );
}

async function removeUpper(
  record: OverlayMount,
  keepUpper: boolean,
  options: UnmountOverlayOptions,
): Promise<void> {
  const { tmpfs, upper, work } = record;
  if (tmpfs) {
    if (findMount(tmpfs)?.type === "tmpfs")
      await unmount(tmpfs, options.lazy ? MNT_DETACH : 0, options.native);
    return;
  }
  await removeTree(work, ...(keepUpper ? [] : [upper]));
}

/** A record comes from a file: what is removed by it must be what a mount makes. */
function checkRecord(record: OverlayMount): void {
  const { upper, work, rootDir, tmpfs } = record;
  const own = tmpfs ?? upper;
  invariant(
    [upper, work, rootDir, record.merged].every((p) => path.isAbsolute(p) && path.normalize(p) === p),
    "a record of an overlay has absolute paths",
  );
  invariant(
    work === (tmpfs ? path.join(tmpfs, "work") : workDirectoryOf(upper)),
    "the work dir belongs to the upper",
  );
  invariant(record.upperGiven || path.dirname(own) === rootDir, "an upper of ours is in the root dir");
}

async function removeIfEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory);
  } catch (cause) {
    if (["ENOENT", "ENOTEMPTY", "EEXIST"].includes(systemErrorCode(cause) ?? "")) return;
    throw new SkimError("LOCAL_IO", `${directory} cannot be removed`, { cause });
  }
}
