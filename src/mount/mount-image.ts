/**
 * An image mounted read-only at a directory, and back. Both directions are one function that reads from top to bottom; the record
 * (mount-record.ts) is written before and removed after, so that a later process can undo what an earlier one left.
 */
import { readlink, realpath, rm, stat } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { type LogLevel, silentLogger } from "../base/logger.js";
import { identifyProcess } from "../base/process-identity.js";
import { resolveSettings, type Settings } from "../base/settings.js";
import { StartMarks } from "../base/start-marks.js";
import { UndoStack } from "../base/undo-stack.js";
import { type FuseEngineName, fuseEngineNames } from "../fuse/engine-names.js";
import { findMountHolders } from "../fuse/mount-holders.js";
import { findMount } from "../fuse/mount-table.js";
import { MNT_DETACH } from "../fuse/umount-flags.js";
import { loadNative } from "../native/load.js";
import type { FetchAheadOptions } from "./fetch-ahead.js";
import { type OpenedImage, type OpenImageOptions, openImageOrArchive } from "./image-or-archive.js";
import { launchServer } from "./launch-server.js";
import { type MountRecord, MountRecords, newMountId } from "./mount-record.js";
import type { MountServerOptions } from "./mount-server.js";
import { sweepAbandoned, undoRecord } from "./undo-record.js";

/** MAXSYMLINKS of the kernel. */
const symlinksMax = 40;

export interface MountImageOptions extends OpenImageOptions, FetchAheadOptions {
  /** File of an archive or name of an image. */
  readonly image: string;
  /** An empty directory. */
  readonly directory: string;
  readonly id?: string;
  /** Image whose registry serves the layers instead of the one the archive names. */
  readonly source?: string;
  readonly engine?: FuseEngineName;
  /** A line in the server's log for each FUSE operation. */
  readonly traceOperations?: boolean;
  readonly logLevel?: LogLevel;
  /** When whoever wants the mount began, of monotonicMs; default: when this is called. */
  readonly begunMs?: number;
}

export interface MountedImage {
  readonly id: string;
  readonly mountpoint: string;
  readonly reference: string;
  readonly archive: string;
  /** Of the process that serves the mount. */
  readonly pid: number;
  readonly log: string;
}

/** Mounts an image; resolves when the mount answers. On failure nothing is left. */
export async function mountImage(options: MountImageOptions): Promise<MountedImage> {
  const marks = beginMarks(options);
  const settings = resolveSettings(options.settings);
  const mountpoint = await resolveMountpoint(options.directory);
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const opened = await openImageOrArchive(options.image, { ...options, marks });
    await opened.archive.close();
    const id = options.id ?? newMountId("mount");
    const records = new MountRecords(settings.runDir);
    await sweepAbandoned(records, options.logger ?? silentLogger);
    const record = newRecord({ id, kind: "mount", opened, lower: mountpoint, settings });
    await records.create(record);
    undo.defer(() => records.remove(id));
    undo.defer(() => rm(record.logFile, { force: true }));
    marks.set("launched");
    const server = await launchServer({
      ...serverOptions(record, opened, options, settings),
      undoArguments: ["umount", id, "--force"],
      ...(options.signal ? { signal: options.signal } : {}),
    });
    undo.defer(() => undoRecord(records, record, { force: true }));
    marks.set("ready");
    record.server = server.identity;
    record.complete = true;
    record.startMarks = marks.snapshot();
    await records.update(record);
    await server.detach();
    return {
      id,
      mountpoint,
      reference: record.reference,
      archive: record.archive,
      pid: server.identity.pid,
      log: record.logFile,
    };
  });
}

export interface UmountOptions {
  readonly settings?: OpenImageOptions["settings"];
  /** Take the mount away although somebody uses it: their next access fails. */
  readonly force?: boolean;
}

/** Undoes mountImage, by its directory or id. Throws NOT_FOUND, and IN_USE naming who holds files open in it. */
export async function umountImage(
  directoryOrId: string,
  options: UmountOptions = {},
): Promise<{ id: string; mountpoint: string }> {
  const settings = resolveSettings(options.settings);
  const records = new MountRecords(settings.runDir);
  const record = await findRecord(records, directoryOrId);
  if (!record) return await umountUnrecorded(directoryOrId, options);
  refuseImage(record);
  if (record.kind !== "mount") {
    throw new SkimError(
      "USAGE",
      `${directoryOrId} belongs to rootfs ${record.id}; undo it with: skim rootfs umount ${record.id}`,
    );
  }
  await undoRecord(records, record, options);
  return { id: record.id, mountpoint: record.lower };
}

/** Throws USAGE for the mount of an image that a daemon shares: containers of several rootfs read from it. */
export function refuseImage({ id, kind }: MountRecord): void {
  if (kind !== "image") return;
  throw new SkimError(
    "USAGE",
    `${id} is the mount of an image that rootfs share: it goes by itself when nobody uses it; skim ps lists who does`,
  );
}

/** By id, else by the directory that is mounted on. */
async function findRecord(records: MountRecords, directoryOrId: string): Promise<MountRecord | undefined> {
  const byId = directoryOrId.includes("/") ? undefined : await records.find(directoryOrId);
  if (byId) return byId;
  const mountpoint = await resolveDeadOrAlive(directoryOrId);
  const there = (await records.list()).filter((record) => record.lower === mountpoint);
  // A server that died some time ago may have left a record of the same directory: what is mounted there now comes first.
  const source = findMount(mountpoint)?.source;
  return there.find((record) => source === `skim:${record.id}`) ?? there[0];
}

/** A skim mount whose record is gone (run directory deleted): the kernel still knows it. */
async function umountUnrecorded(
  directory: string,
  options: UmountOptions,
): Promise<{ id: string; mountpoint: string }> {
  const mountpoint = await resolveDeadOrAlive(directory);
  const found = findMount(mountpoint);
  if (found?.type !== "fuse.skim") {
    throw new SkimError(
      "NOT_FOUND",
      `${directory}: no skim mount there, and no mount has this id; skim ps lists what is mounted`,
    );
  }
  await loadNative()
    .umount(mountpoint, options.force ? MNT_DETACH : 0)
    .catch((cause: unknown) => {
      if (systemErrorCode(cause) !== "EBUSY") throw cause;
      const who = findMountHolders(found).join("; ") || "somebody whom /proc does not show";
      throw new SkimError("IN_USE", `${directory} is in use: ${who}; end that, then unmount again`, {
        cause,
      });
    });
  return { id: found.source.replace(/^skim:/, ""), mountpoint };
}

/** `options.marks` is set where a caller has begun to mark the same start. */
export function beginMarks(options: Pick<MountImageOptions, "begunMs" | "marks">): StartMarks {
  const marks = options.marks ?? new StartMarks();
  marks.set("begun", options.begunMs);
  return marks;
}

export function newRecord(given: {
  id: string;
  kind: MountRecord["kind"];
  opened: Pick<OpenedImage, "source" | "archiveFile">;
  lower: string;
  settings: Settings;
}): MountRecord {
  return {
    recordVersion: 1,
    id: given.id,
    kind: given.kind,
    reference: given.opened.source,
    archive: given.opened.archiveFile,
    lower: given.lower,
    logFile: path.join(given.settings.runDir, "logs", `${given.id}.log`),
    createdAt: new Date().toISOString(),
    owner: identifyProcess(process.pid),
    madeDirectories: [],
  };
}

export function serverOptions(
  record: MountRecord,
  opened: OpenedImage,
  options: Pick<
    MountImageOptions,
    "source" | "engine" | "traceOperations" | "logLevel" | keyof FetchAheadOptions
  >,
  settings: Settings,
): MountServerOptions & { logFile: string; logLevel: LogLevel } {
  return {
    id: record.id,
    archive: record.archive,
    ...(opened.archive.treeProof ? { proof: opened.archive.treeProof } : {}),
    source: options.source ?? opened.source,
    mountpoint: record.lower,
    engine: options.engine ?? fuseEngineNames[0],
    traceOperations: options.traceOperations ?? false,
    socketFile: new MountRecords(settings.runDir).socketFile(record.id),
    settings,
    logFile: record.logFile,
    logLevel: options.logLevel ?? "info",
    prefetch: options.prefetch ?? "auto",
    backgroundFill: options.backgroundFill ?? "off",
    recordProfile: options.recordProfile ?? false,
    ...(options.command ? { command: options.command } : {}),
  };
}

export async function resolveMountpoint(directory: string): Promise<string> {
  try {
    const resolved = await realpath(directory);
    if (!(await stat(resolved)).isDirectory()) {
      throw new SkimError("MOUNT_FAILED", `${directory} is not a directory; give an empty one`);
    }
    return resolved;
  } catch (cause) {
    const code = (cause as { code?: string }).code;
    if (code === "ENOENT")
      throw new SkimError("MOUNT_FAILED", `no directory ${directory}; make it first: mkdir -p ${directory}`, {
        cause,
      });
    if (code === "ENOTCONN") {
      throw new SkimError(
        "MOUNT_FAILED",
        `${directory} holds a dead mount; take it away with: skim umount ${directory}`,
        { cause },
      );
    }
    throw cause;
  }
}

/** realpath that does not need the mount point itself to answer: a dead mount gives ENOTCONN. */
async function resolveDeadOrAlive(directory: string, linksLeft = symlinksMax): Promise<string> {
  const absolute = path.resolve(directory);
  const parent = await realpath(path.dirname(absolute)).catch(() => path.dirname(absolute));
  const resolved = path.join(parent, path.basename(absolute));
  const target = linksLeft > 0 ? await readlink(resolved).catch(() => undefined) : undefined;
  if (target === undefined) return resolved;
  return await resolveDeadOrAlive(path.resolve(parent, target), linksLeft - 1);
}
