/**
 * A container's root filesystem, and back: the image mounted lazily as the lower, a seeded upper and a work directory, and the merged view.
 *
 *     <runDir>/rootfs/<id>/lower     FUSE, read-only
 *     <runDir>/rootfs/<id>/merged    overlay (or where the caller wants it)
 *     <cacheDir>/rootfs/<id>/        upper and work, where the caller gives no upper: on disk, not on the tmpfs that /run is
 */
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import type { Archive } from "../archive/archive.js";
import { invariant, SkimError } from "../base/errors.js";
import { silentLogger } from "../base/logger.js";
import { isRunning } from "../base/process-identity.js";
import { resolveSettings, type Settings } from "../base/settings.js";
import { loadNative } from "../native/load.js";
import { mountOverlay, type OverlayBinding, type OverlayMount } from "../overlay/overlay-mount.js";
import type { SeedDirectory } from "../overlay/seed-directory.js";
import { imageDirectories } from "./image-directories.js";
import { withImage } from "./image-in-use.js";
import type { OpenedImage } from "./image-or-archive.js";
import { launchServer } from "./launch-server.js";
import {
  beginMarks,
  type MountImageOptions,
  newRecord,
  refuseImage,
  serverOptions,
  type UmountOptions,
} from "./mount-image.js";
import { type MountRecord, MountRecords, requireMountId } from "./mount-record.js";
import { askOwnServer, readStats } from "./mount-stats.js";
import type { MountStats } from "./serve-image.js";
import { sweepAbandoned, type UndoOptions, undoRecord } from "./undo-record.js";

export interface MountRootfsOptions extends Omit<MountImageOptions, "directory" | "id"> {
  readonly id: string;
  readonly kind?: Exclude<MountRecord["kind"], "mount" | "image">;
  /** Writable layer of the caller's own; it is kept. Must not be in use, nor hold changes to another image. */
  readonly upper?: string;
  /** Writable layer in memory, gone with the rootfs. */
  readonly tmpfsUpper?: boolean;
  /** Where the merged view is mounted; default: a directory of ours. */
  readonly merged?: string;
  /** Directories that must be there, besides proc, sys, dev and tmp. */
  readonly dirs?: readonly SeedDirectory[];
  /** Directories of the caller's making that go with the rootfs, if they are empty then. */
  readonly ownDirectories?: readonly string[];
}

export interface MountedRootfs {
  readonly id: string;
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
}

/** A mounted rootfs that goes with its maker, until it is released. */
export interface HeldRootfs extends MountedRootfs {
  readonly record: MountRecord;
  /** Resolves when its server has died, and its files with it: to how. */
  readonly lost: Promise<string>;
  /** Notes in its record what else is to be undone with it, or that it is to stay. */
  note(
    changes: Partial<Pick<MountRecord, "bundle" | "container" | "madeDirectories" | "startMarks">>,
  ): Promise<void>;
  /** Lets it stay when this process ends. */
  release(): Promise<void>;
  undo(options: UndoOptions): Promise<void>;
  /** What was read and fetched so far; undefined when its server has died. */
  stats(): Promise<MountStats | undefined>;
}

/** What a container needs of its rootfs. */
export interface RootfsPlan {
  /** Further directories that must be there. */
  directories(archive: Archive): readonly SeedDirectory[];
  /** Is called with the mounted image. */
  prepare(image: PreparedLower): Promise<void>;
}

/** How a rootfs is come by; see holdRootfs. */
export type HoldRootfs = (options: MountRootfsOptions, plan?: RootfsPlan) => Promise<HeldRootfs>;

/** What a mounted image can be asked before the overlay is stacked on it. */
export interface PreparedLower {
  readonly archive: Archive;
  /** Where the image is mounted, read-only. */
  readonly lower: string;
}

/** Mounts a rootfs with a server of its own, which goes with this process until it is released. Resolves when it can be used. On failure nothing is left. */
export async function holdRootfs(options: MountRootfsOptions, plan?: RootfsPlan): Promise<HeldRootfs> {
  requireMountId(options.id);
  const marks = beginMarks(options);
  const settings = resolveSettings(options.settings);
  const records = new MountRecords(settings.runDir);
  return await withImage(options.image, { ...options, marks }, async (opened, meaning) => {
    const record = planRootfs(options, opened, settings);
    await sweepAbandoned(records, options.logger ?? silentLogger);
    await records.create(record);
    try {
      await mkdir(record.lower, { recursive: true, mode: 0o700 });
      marks.set("launched");
      const launching = launchServer({
        ...serverOptions(record, opened, options, settings),
        undoArguments: ["rootfs", "umount", record.id, "--force"],
        ...(options.signal ? { signal: options.signal } : {}),
      });
      meaning.ask();
      const server = await launching;
      marks.set("ready");
      record.server = server.identity;
      await records.update(record);
      await plan?.prepare({ archive: opened.archive, lower: record.lower });
      if (isSeenBefore(options)) await meaning.confirm();
      const overlay = await stackRootfs(record, opened.archive, loadNative(), {
        ...options,
        dirs: [...(options.dirs ?? []), ...(plan?.directories(opened.archive) ?? [])],
      });
      marks.set("overlaid");
      record.overlay = overlay;
      await records.update(record);
      await meaning.confirm();
      const { lower, upper, work, merged } = overlay;
      return {
        ...{ id: record.id, lower, upper, work, merged, record },
        lost: server.exited,
        async note(changes: Partial<MountRecord>) {
          Object.assign(record, changes);
          await records.update(record);
        },
        async release() {
          record.complete = true;
          record.startMarks = marks.snapshot();
          await records.update(record);
          await server.detach();
        },
        undo: async (how: UndoOptions) => void (await undoRecord(records, record, how)),
        stats: () => readStats(askOwnServer(settings.runDir), record.id).catch(() => undefined),
      };
    } catch (error) {
      await undoRecord(records, record, { force: true }).catch(() => {});
      await rm(record.logFile, { force: true });
      throw error;
    }
  });
}

/** True where others look at what is stacked before it is handed out, or where it leaves traces: not with an image that may turn out to be another one. */
export function isSeenBefore({ upper, merged }: Pick<MountRootfsOptions, "upper" | "merged">): boolean {
  return upper !== undefined || merged !== undefined;
}

/** Says where everything of a rootfs will be. Its image is mounted at `lower`, below its own directory where that is not given. */
export function planRootfs(
  options: MountRootfsOptions,
  opened: Omit<OpenedImage, "archive">,
  settings: Settings,
  lower?: string,
): MountRecord {
  // 0700 above lower and merged: the image may hold setuid programs that users of this host must not reach.
  const top = path.join(settings.runDir, "rootfs", options.id);
  const ownLower = path.join(top, "lower");
  const merged = path.resolve(options.merged ?? path.join(top, "merged"));
  const kind = options.kind ?? "rootfs";
  return {
    ...newRecord({ id: options.id, kind, opened, lower: lower ?? ownLower, settings }),
    madeDirectories: [
      ...(options.ownDirectories ?? []),
      top,
      ...(lower === undefined ? [ownLower] : []),
      ...(options.merged ? [] : [merged]),
    ],
    merged,
    writableDirectory: path.join(settings.cacheDir, "rootfs", options.id),
    upperGiven: options.upper !== undefined,
    ...(options.upper === undefined ? {} : { upper: path.resolve(options.upper) }),
  };
}

/** The overlay of a rootfs whose image is mounted. Throws as mountOverlay does. */
export async function stackRootfs(
  record: MountRecord,
  archive: Archive,
  native: OverlayBinding,
  options: Pick<MountRootfsOptions, "dirs" | "upper" | "tmpfsUpper" | "logger" | "signal">,
): Promise<OverlayMount> {
  const { merged, writableDirectory } = record;
  invariant(merged && writableDirectory, "the record of a rootfs says where it is mounted");
  return await mountOverlay({
    lower: record.lower,
    image: imageDirectories(archive),
    manifestDigest: archive.identity.manifestDigest,
    rootDir: writableDirectory,
    merged,
    directories: options.dirs ?? [],
    tmpfsUpper: options.tmpfsUpper ?? false,
    native,
    logger: options.logger ?? silentLogger,
    ...(options.upper ? { upper: path.resolve(options.upper) } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
  });
}

export interface UmountRootfsOptions extends UmountOptions {
  /** Leave the writable layer, and say where it is. */
  readonly keepUpper?: boolean;
}

/**
 * Undoes a rootfs: container, overlay, FUSE, directories, record; each step is left out when it is done already, so a second call finishes
 * what a first one could not. Throws NOT_FOUND, and IN_USE naming who uses it.
 */
export async function umountRootfs(
  id: string,
  options: UmountRootfsOptions = {},
): Promise<{ id: string; upper: string | undefined }> {
  const settings = resolveSettings(options.settings);
  const records = new MountRecords(settings.runDir);
  const record = await requireRootfs(records, id, options);
  return { id, ...(await undoRecord(records, record, options)) };
}

/**
 * The record of a rootfs that may be undone. Throws NOT_FOUND, USAGE for a plain mount, and IN_USE for a run that goes on, unless told to force: undoing it ends its container,
 * and whoever has started that waits for it.
 */
export async function requireRootfs(
  records: MountRecords,
  id: string,
  { force = false }: Pick<UmountRootfsOptions, "force">,
): Promise<MountRecord> {
  const record = await records.find(id);
  if (!record) throw new SkimError("NOT_FOUND", `no rootfs with id ${id}; skim ps lists what is mounted`);
  const { kind, owner } = record;
  if (kind === "mount")
    throw new SkimError("USAGE", `${id} is a plain mount; undo it with: skim umount ${id}`);
  refuseImage(record);
  const isOthers = kind === "run" && owner && owner.pid !== process.pid && isRunning(owner);
  if (isOthers && !force)
    throw new SkimError(
      "IN_USE",
      `${id} is a container that process ${owner.pid} runs; end that, or end the container and undo it with: skim rootfs umount --force ${id}`,
    );
  return record;
}
