/**
 * The way back from everything that has a record, from the record alone: container, overlay, server, directories, record. Each step is left
 * out when it is done already, so that a second call finishes what a first one, or a crash, could not.
 */
import { realpath, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import { haltAt } from "../base/halt.js";
import type { Logger } from "../base/logger.js";
import { isRunning, processEnded, signalProcess } from "../base/process-identity.js";
import { findMountHolders } from "../fuse/mount-holders.js";
import { findMount } from "../fuse/mount-table.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import { loadNative } from "../native/load.js";
import type { OverlayBinding, OverlayMount } from "../overlay/overlay-mount.js";
import { isInside, type OverlayEntry, overlaysIn } from "../overlay/overlay-table.js";
import { unmountOverlay } from "../overlay/overlay-unmount.js";
import { destroyContainer } from "../runtime/container-lifecycle.js";
import { callControlSocket } from "./control-socket.js";
import type { MountRecord, MountRecords } from "./mount-record.js";

/** What writeBundle makes. */
const bundleFiles = ["config.json", "hostname", "hosts"];

/** A server that has unmounted has only files to close. */
const endTimeoutMs = 15_000;

export interface UndoOptions {
  /** Also while it is in use: the next access of its users fails. */
  readonly force?: boolean;
  /** Leave the writable layer. */
  readonly keepUpper?: boolean;
  /** What mounts and unmounts; default: this process. One that serves mounts has others do it. */
  readonly native?: OverlayBinding;
}

/** Resolves to the upper dir where it was kept. Throws IN_USE naming who uses it, unless told to `force`. */
export async function undoRecord(
  records: MountRecords,
  record: MountRecord,
  options: UndoOptions = {},
): Promise<{ upper: string | undefined }> {
  if (record.container) await destroyContainer(record.container);
  const overlay = record.overlay as OverlayMount | undefined;
  const keepUpper = options.keepUpper === true || record.upperGiven === true;
  const native = options.native ?? loadNative();
  if (overlay) {
    const lazy = options.force ?? false;
    await unmountOverlay(overlay, { native, keepUpper, lazy });
  } else if (record.merged && record.writableDirectory) {
    // What was mounted, and then there was no time to write it down: the overlay, and the tmpfs that holds its upper. What somebody else
    // has at the place where ours was to be stays.
    const { merged } = record;
    // Others may have the same image below them, and want the same place.
    const layers = await realpath(record.upper ?? record.writableDirectory).catch(() => undefined);
    const isOurs = ({ mountpoint, upper }: OverlayEntry) =>
      mountpoint === merged && upper !== undefined && layers !== undefined && isInside(upper, layers);
    if (overlaysIn().some(isOurs)) await native.umount(merged, MNT_DETACH | UMOUNT_NOFOLLOW);
    const tmpfs = path.join(record.writableDirectory, "tmpfs");
    if (findMount(tmpfs)) await native.umount(tmpfs, MNT_DETACH | UMOUNT_NOFOLLOW);
  }
  haltAt("overlay-undone");
  if (record.sharedImage === undefined) await stopServer(records, record, options);
  else if (record.kind === "mount" && !(await isTaken(records, record)))
    await unmountBound(record, native, options);
  if (record.bundle) {
    // A bundle of `skim run` is ours with what a runtime left in it; another one is the caller's but for our files.
    const ours =
      record.kind === "run" ? [record.bundle] : bundleFiles.map((name) => path.join(record.bundle!, name));
    for (const one of ours) await removeAll(one);
  }
  for (const directory of record.madeDirectories.toReversed()) await removeIfEmpty(directory);
  haltAt("directories-removed");
  if (record.writableDirectory) {
    if (!keepUpper) await removeAll(record.writableDirectory);
    else if (record.upperGiven) await removeIfEmpty(record.writableDirectory);
  }
  haltAt("upper-removed");
  await records.remove(record.id);
  haltAt("record-removed");
  return { upper: keepUpper ? overlay?.upper : undefined };
}

/** Where the maker of a mount died before it came to mounting, somebody else may have mounted there since. */
async function isTaken(records: MountRecords, { id, lower, complete }: MountRecord): Promise<boolean> {
  if (complete) return false;
  return (await records.list()).some((other) => other.id !== id && other.lower === lower && other.complete);
}

/** The shared mount of an image, bound to a directory of somebody's. */
async function unmountBound(
  { lower }: MountRecord,
  native: OverlayBinding,
  { force }: UndoOptions,
): Promise<void> {
  const mount = findMount(lower);
  if (mount?.type !== "fuse.skim") return;
  await native.umount(lower, UMOUNT_NOFOLLOW | (force ? MNT_DETACH : 0)).catch((cause: unknown) => {
    if (systemErrorCode(cause) !== "EBUSY") throw cause;
    const who = findMountHolders(mount).join("; ") || "somebody whom /proc does not show";
    throw new SkimError("IN_USE", `${lower} is in use: ${who}; end that, then unmount again`, { cause });
  });
}

/** What cannot be there, because a file is where its parent was to be made, is removed. */
async function removeAll(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true }).catch((error: unknown) => {
    if (systemErrorCode(error) !== "ENOTDIR") throw error;
  });
}

/** A directory with something in it is not only ours any more: it stays. */
async function removeIfEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: unknown) => {
    if (!["ENOENT", "ENOTEMPTY", "EBUSY"].includes(systemErrorCode(error) ?? "")) throw error;
  });
}

/**
 * Ends the server of `record` and its mount, whatever state they are in: asks it to unmount; a server that is gone leaves a
 * dead mount, which is taken away from here. Resolves when the process has ended and nothing is mounted. Throws IN_USE naming the holders.
 */
async function stopServer(records: MountRecords, record: MountRecord, options: UndoOptions): Promise<void> {
  const socketFile = records.socketFile(record.id);
  const reply = await callControlSocket(socketFile, { operation: "shutdown", force: options.force ?? false });
  if (!reply && record.server && isRunning(record.server) && findMount(record.lower) && !options.force) {
    throw new SkimError(
      "IN_USE",
      `mount server ${record.server.pid} of ${record.lower} does not answer; end it, or use --force: readers get ENOTCONN`,
    );
  }
  if (reply) await Promise.race([reply.closed, timePassed(endTimeoutMs)]);
  // Its connections close a little before it has ended, with the exit code that somebody may wait for.
  if (reply && record.server) await processEnded(record.server, endTimeoutMs);
  // A server that ended as it should has nothing more to tell; the log of one that died stays.
  if (reply) await rm(record.logFile, { force: true });
  // Only a server that died, or never came as far as its socket, leaves this to do.
  if (findMount(record.lower)?.type === "fuse.skim") {
    await loadNative().umount(record.lower, MNT_DETACH);
  }
  // That of a shared image is a daemon, which has others to serve.
  if (record.kind !== "image" && record.server && isRunning(record.server))
    signalProcess(record.server, "SIGKILL");
  await rm(socketFile, { force: true });
}

function timePassed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/**
 * Undoes what processes that were killed in the middle of mounting have left, as far as their mount servers have not done it already. What was
 * mounted as a whole is not touched, whatever has become of its server: its writable layer may be all there is of somebody's work.
 */
export async function sweepAbandoned(records: MountRecords, logger: Logger): Promise<void> {
  await records.removeHalfWritten();
  for (const record of await records.list()) {
    if (record.complete || !record.owner || isRunning(record.owner)) continue;
    // Its server knows that the owner is gone, and is at it.
    if (record.server && isRunning(record.server)) continue;
    try {
      await undoRecord(records, record, { force: true });
      logger.warn({ id: record.id }, "undid what a killed process had left");
    } catch (error) {
      logger.warn(
        { id: record.id, error: describeError(error) },
        "cannot undo yet what a killed process left",
      );
    }
  }
}
