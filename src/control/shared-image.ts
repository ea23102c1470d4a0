/**
 * One image that a daemon serves at one FUSE mount, for all who use it, and the same mount taken over from the server before.
 *
 *     <runDir>/images/<id>/mount      the mount
 *     <runDir>/images/<id>/archive    a copy of the archive
 *
 * The copy is what is served: whatever becomes of the file that the caller named, and of the cache directory, the next server finds the tree whose inode
 * numbers the kernel knows. It is on a tmpfs and takes about 0.6 % of the uncompressed image.
 */
import { closeSync, constants } from "node:fs";
import { copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { TreeProof } from "../archive/archive.js";
import { fileIdentityOf } from "../archive/tree-proof.js";
import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import { haltAt } from "../base/halt.js";
import type { Logger } from "../base/logger.js";
import { identifyProcess } from "../base/process-identity.js";
import type { Settings } from "../base/settings.js";
import { StartMarks } from "../base/start-marks.js";
import { UndoStack } from "../base/undo-stack.js";
import type { SharedContentParts } from "../content/content.js";
import type { ServedImage } from "../fuse/fuse-session.js";
import { findMount } from "../fuse/mount-table.js";
import { NativeEngine } from "../fuse/native-engine.js";
import type { NativeSession } from "../fuse/native-session.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { DescriptorKeeper, HeldConnection } from "../holder/descriptor-keeper.js";
import { knownProof } from "../mount/archive-store.js";
import type { DiskCache } from "../mount/disk-cache.js";
import type { FetchAheadOptions } from "../mount/fetch-ahead.js";
import { newRecord } from "../mount/mount-image.js";
import type { MountRecord, MountRecords } from "../mount/mount-record.js";
import { type ServedImageMount, serveImage } from "../mount/serve-image.js";
import type { OverlayBinding } from "../overlay/overlay-mount.js";
import type { NamedImage, RegistryAccess } from "./image-request.js";

export type ServedShared = ServedImageMount<NativeSession>;

/** What all images of a daemon are served with. */
export interface ImageHost {
  readonly settings: Settings;
  readonly records: MountRecords;
  readonly keeper: DescriptorKeeper;
  /** Unmounts in a process that serves nothing. */
  readonly native: Pick<OverlayBinding, "umount">;
  readonly cache: DiskCache;
  readonly shared: SharedContentParts;
  readonly logger: Logger;
}

/** What the next server must know to serve the mount as this one does: the keeper's note. */
interface Note {
  readonly source: string | undefined;
  readonly access: RegistryAccess;
  readonly fetchAhead: Pick<FetchAheadOptions, "prefetch" | "backgroundFill">;
}

export interface SharedPlaces {
  readonly directory: string;
  readonly mountpoint: string;
  readonly archive: string;
}

export function sharedPlaces(runDir: string, id: string): SharedPlaces {
  const directory = path.join(runDir, "images", id);
  return { directory, mountpoint: path.join(directory, "mount"), archive: path.join(directory, "archive") };
}

/** Mounts an image that is not mounted yet. Resolves when it can be used; on failure nothing is left. */
export async function mountShared(
  id: string,
  image: NamedImage,
  fetchAhead: FetchAheadOptions,
  host: ImageHost,
): Promise<{ served: ServedShared; record: MountRecord }> {
  const { settings, records, keeper, native } = host;
  const places = sharedPlaces(settings.runDir, id);
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const record: MountRecord = {
      ...newRecord({
        id,
        kind: "image",
        opened: { archiveFile: image.archiveFile, source: image.source ?? "" },
        lower: places.mountpoint,
        settings,
      }),
      madeDirectories: [places.directory, places.mountpoint],
      writableDirectory: places.directory,
    };
    await records.create(record);
    undo.defer(() => records.remove(id));
    haltAt("image-recorded");
    await mkdir(places.mountpoint, { recursive: true, mode: 0o700 });
    undo.defer(() => rm(places.directory, { recursive: true, force: true }));
    const proof = await copyArchive(image.archiveFile, places.archive, settings.cacheDir);

    const { access, source } = image;
    const { prefetch = "auto", backgroundFill = "off" } = fetchAhead;
    const note: Note = { source, access, fetchAhead: { prefetch, backgroundFill } };
    const connection = await keeper.mount({
      id,
      mountpoint: places.mountpoint,
      fsName: `skim:${id}`,
      allowOther: true,
      note: JSON.stringify(note),
    });
    undo.defer(() => keeper.release(id));
    // Where nothing came to serve it.
    undo.defer(async () => {
      if (findMount(places.mountpoint)) await native.umount(places.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    });
    haltAt("image-connected");
    const served = await serve(id, note, fetchAhead, host, connection, proof);
    undo.defer(() => served.session.unmount({ force: true }));
    haltAt("image-served");
    await keeper.keepInitResult(id, served.session.initResult());
    // For the next server: it was checked now, if not before.
    const { treeProof } = served.archive;
    if (treeProof) await writeFile(proofFileOf(places), JSON.stringify(treeProof), { mode: 0o600 });
    record.reference = source ?? served.archive.identity.reference;
    record.server = identifyProcess(process.pid);
    record.complete = true;
    await records.update(record);
    haltAt("image-completed");
    return { served, record };
  });
}

/**
 * Serves what the server before has served. Throws where that cannot be done: then its descriptor is closed, and its readers wait until the keeper lets go of its
 * own.
 */
export async function adoptShared(
  held: HeldConnection,
  record: MountRecord,
  host: ImageHost,
): Promise<ServedShared> {
  const { settings, records, keeper } = host;
  const note = noteOf(held);
  const places = sharedPlaces(settings.runDir, held.id);
  const known = await readFile(proofFileOf(places), "utf8").then(JSON.parse, () => undefined);
  const served = await serve(
    held.id,
    note,
    { ...note.fetchAhead, isStarted: true },
    host,
    held,
    known as TreeProof | undefined,
  );
  if (!held.initResult) await keeper.keepInitResult(held.id, served.session.initResult());
  try {
    await records.update({ ...record, server: identifyProcess(process.pid), complete: true });
  } catch (error) {
    // The record before says the same of all that is to be undone. Readers have what they need.
    host.logger.warn({ mount: held.id, error: describeError(error) }, "served again, and not written down");
  }
  return served;
}

function noteOf({ note, descriptor }: HeldConnection): Note {
  try {
    return JSON.parse(note) as Note;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** The descriptor is the session's from here on, and closed where there comes to be none. */
async function serve(
  id: string,
  note: Note,
  fetchAhead: FetchAheadOptions & { readonly isStarted?: boolean },
  { settings, cache, shared, logger }: ImageHost,
  { descriptor, mountpoint, initResult }: HeldConnection,
  proof: TreeProof | undefined,
): Promise<ServedShared> {
  const { environment, ...ways } = note.access;
  const marks = new StartMarks();
  marks.set("told");
  const log = logger.child({ mount: id });
  let isHanded = false;
  return await serveImage({
    ...fetchAhead,
    id,
    archive: sharedPlaces(settings.runDir, id).archive,
    ...(proof ? { proof } : {}),
    ...(note.source === undefined ? {} : { source: note.source }),
    settings: { ...settings, ...ways },
    ...(environment ? { environment: { ...process.env, ...environment } } : {}),
    cache,
    shared,
    logger: log,
    marks,
    connect: (image: ServedImage) => {
      isHanded = true;
      const connection = { descriptor, mountpoint, ...(initResult ? { initResult } : {}) };
      return new NativeEngine().serve(image, connection, { logger: log });
    },
  }).catch((error: unknown) => {
    if (!isHanded) closeSync(descriptor);
    throw error;
  });
}

/** Copies an archive, and with it the word of whoever has checked it, which holds for the same bytes in another place. */
async function copyArchive(from: string, to: string, cacheDir: string): Promise<TreeProof | undefined> {
  const known = await knownProof(from, cacheDir);
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  } catch (cause) {
    if (systemErrorCode(cause) !== "ENOSPC") throw cause;
    throw new SkimError("LOCAL_IO", `no room for a copy of the archive in ${path.dirname(to)}`, { cause });
  }
  // Whoever has changed the file meanwhile has changed its identity.
  const isSame = known?.file === fileIdentityOf(await stat(from, { bigint: true }));
  return known && isSame ? { ...known, file: fileIdentityOf(await stat(to, { bigint: true })) } : undefined;
}

function proofFileOf({ directory }: SharedPlaces): string {
  return path.join(directory, "proof");
}

/** Takes the mount away, and all that was made for it. Throws IN_USE while somebody has something open in it, unless told to force. */
export async function unmountShared(
  id: string,
  served: ServedShared,
  { settings, records, keeper }: ImageHost,
  options: { readonly force: boolean },
): Promise<void> {
  await served.session.unmount(options);
  haltAt("image-unmounted");
  await served.ended;
  await keeper.release(id);
  await rm(sharedPlaces(settings.runDir, id).directory, { recursive: true, force: true });
  await records.remove(id);
}
