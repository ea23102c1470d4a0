/**
 * The two files that hold a layer, and how they come to be.
 *
 * `<cacheDir>/layers/<algorithm>/<hex>/data-<layout>` is the uncompressed layer as a sparse file, `spans-<layout>` beside it the
 * presence map. <layout> is the start of the layout's hash, which covers the digest of every span: processes that write to one data file
 * agree about every byte that belongs in it. (One file for all layouts would let a forged archive, which names a digest
 * that it does not have the bytes of, overwrite what another process has checked and is serving.)
 *
 * Files get their name complete, by link(2), which never replaces. A file that is not as it should be (truncated, another header) is unlinked
 * and made anew, never mended in place: who still has the old one open would see zeros where it has seen data.
 *
 * What eviction rests on (layer-eviction.ts), and what must stay so:
 * - whoever reads or writes the files holds a shared flock(2) on the map, from before the first look at it until after the last use of both files. It
 *   belongs to the open file description, which native readers have copies of, and so goes when the last of them has gone, or is killed;
 * - with the lock held it was found that both names still lead to these files;
 * - an exclusive lock on a map that has its name is only taken with the lock on the directory held;
 * - a map that says nothing is only ever made together with a new data file, with the lock on the directory held. So every map that is used with a
 *   data file is the first one, or one that eviction has made of it.
 */
import { randomBytes } from "node:crypto";
import { constants, fstatSync, statSync } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import { type Digest, digestAlgorithm, digestHex, isDigest } from "../image/digest.js";
import { type LockNative, waitForLock } from "./file-lock.js";
import { emptyMap, isMapFor, MAP_HEADER_BYTES, mapBytes } from "./presence-map.js";

/** Two processes that replace damaged files at the same time may undo each other's work; they do not go on for ever. */
const attemptsMax = 20;
/** A map that stays locked is being removed, or has been retired. */
const mapLockWaitMsMax = 100;
/** Files are made or removed in milliseconds; punching holes may take a slow disk some seconds. */
const directoryLockWaitMsMax = 10_000;
/** A temporary file lives for milliseconds. One this old was left by a process that was killed. */
const temporaryFileAgeMsMax = 60 * 60 * 1000;

export interface LayerFileLayout {
  readonly digest: Digest;
  readonly uncompressedBytes: number;
  readonly spanCount: number;
  /** See layoutOf. */
  readonly layout: Buffer;
  /** See spanTableOf; asked for when a map is made. */
  spanTable(): Buffer;
}

/** Where the files of a layer are. */
export interface LayerFileNames {
  readonly directory: string;
  /** Start of the layout's hash, in hex. */
  readonly layoutName: string;
  readonly data: string;
  readonly map: string;
  /** The map before, while spans are being evicted. */
  readonly retiredMap: string;
}

export function layerFileNames(directory: string, layoutName: string): LayerFileNames {
  const inside = (prefix: string) => path.join(directory, `${prefix}-${layoutName}`);
  return { directory, layoutName, data: inside("data"), map: inside("spans"), retiredMap: inside("retired") };
}

export function layerDirectory(cacheDir: string, digest: Digest): string {
  return path.join(cacheDir, "layers", digestAlgorithm(digest), digestHex(digest));
}

export class LayerFiles {
  readonly data: FileHandle;
  readonly map: FileHandle;
  /** False where the cache directory can only be read. */
  readonly writable: boolean;
  readonly #mapFile: string;
  readonly #uncompressedBytes: number;

  constructor(
    data: FileHandle,
    map: FileHandle,
    writable: boolean,
    mapFile: string,
    uncompressedBytes: number,
  ) {
    this.data = data;
    this.map = map;
    this.writable = writable;
    this.#mapFile = mapFile;
    this.#uncompressedBytes = uncompressedBytes;
  }

  /**
   * Why the files must be let go of; undefined where all is well. Nothing may be written to files that are gone, and their space should be given back;
   * with another map in the old one's place, somebody waits for this process to go on to that one.
   */
  staleness(): "deleted" | "replaced" | undefined {
    const data = fstatSync(this.data.fd);
    const map = fstatSync(this.map.fd);
    if (data.nlink === 0 || data.size !== this.#uncompressedBytes || map.nlink === 0) return "deleted";
    const named = statSync(this.#mapFile, { throwIfNoEntry: false });
    return named?.ino === map.ino && named.dev === map.dev ? undefined : "replaced";
  }

  /** Waits for the reads and writes under way. The map is closed last: its lock says that nobody uses the data. */
  async close(): Promise<void> {
    try {
      await this.data.close();
    } finally {
      await this.map.close();
    }
  }
}

/** Opens the files of a layer, and makes what is missing or damaged. Throws what node:fs and flock(2) throw, and LOCAL_IO. */
export async function openLayerFiles(
  cacheDir: string,
  layer: LayerFileLayout,
  native: LockNative,
): Promise<LayerFiles> {
  invariant(isDigest(layer.digest), "a layer in the cache is named by its digest");
  const names = layerFileNames(layerDirectory(cacheDir, layer.digest), layer.layout.toString("hex", 0, 8));
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    await makePrivateDirectory(path.join(cacheDir, "layers"), names.directory);
    const files = (await openCurrent(names, layer, native)) ?? (await makeFiles(names, layer, native));
    if (files) return files;
  }
  throw new SkimError("LOCAL_IO", `cache files in ${names.directory}: replaced by others again and again`);
}

/** Bytes that were checked must not be changed by other users: the directory and what is in it are the owner's alone. */
async function makePrivateDirectory(layersDir: string, layerDir: string): Promise<void> {
  const found = await stat(layerDir).catch(() => undefined);
  if (!found) await mkdir(layerDir, { recursive: true, mode: 0o700 });
  const owner = await lstat(layersDir);
  if (!owner.isDirectory() || owner.uid !== process.geteuid!() || (owner.mode & 0o022) !== 0) {
    throw new SkimError(
      "LOCAL_IO",
      `cache directory ${layersDir}: is not a directory that only its owner, user ${process.geteuid!()}, can write to; mend it or choose another with --cache-dir`,
    );
  }
}

/** The files with their lock, where they are as they should be, and still were when the lock was had; otherwise undefined. */
async function openCurrent(
  names: LayerFileNames,
  layer: LayerFileLayout,
  native: LockNative,
): Promise<LayerFiles | undefined> {
  const data = await openWhole(names.data, layer.uncompressedBytes, async () => true);
  if (!data) return undefined;
  let map: OpenedFile | undefined;
  let isCurrent = false;
  try {
    map = await openWhole(names.map, mapBytes(layer.spanCount), async (file) => {
      const header = Buffer.alloc(MAP_HEADER_BYTES);
      await file.read(header, 0, header.length, 0);
      return isMapFor(header, layer.spanCount, layer.layout);
    });
    if (!map) return undefined;
    isCurrent =
      (await waitForLock(map.file, native, { exclusive: false, waitMsMax: mapLockWaitMsMax })) &&
      (await isNamed(data.file, names.data)) &&
      (await isNamed(map.file, names.map));
    if (!isCurrent) return undefined;
    const writable = data.writable && map.writable;
    return new LayerFiles(data.file, map.file, writable, names.map, layer.uncompressedBytes);
  } finally {
    if (!isCurrent) {
      await data.file.close();
      await map?.file.close();
    }
  }
}

async function makeFiles(
  names: LayerFileNames,
  layer: LayerFileLayout,
  native: LockNative,
): Promise<LayerFiles | undefined> {
  return await withLayerDirectory(names.directory, native, async () => {
    // Whoever had the lock before may have made them.
    const made = await openCurrent(names, layer, native);
    if (made) return made;
    // What is in a data file only its map knows, and who may still be using it only its lock.
    for (const file of [names.data, names.map, names.retiredMap]) await rm(file, { force: true });
    await publish(names.data, (file) => file.truncate(layer.uncompressedBytes));
    await publish(names.map, (file) => file.writeFile(emptyMap(layer.spanTable(), layer.layout)));
    return await openCurrent(names, layer, native);
  });
}

/** Runs `work` with the lock on a layer's directory: nobody else makes files there, or evicts. Undefined where the directory is gone or stays locked. */
export async function withLayerDirectory<T>(
  directory: string,
  native: LockNative,
  work: () => Promise<T>,
): Promise<T | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    if (!(await waitForLock(handle, native, { exclusive: true, waitMsMax: directoryLockWaitMsMax })))
      return undefined;
    return (await isNamed(handle, directory)) ? await work() : undefined;
  } finally {
    await handle.close();
  }
}

/** True where `name` leads to the file that is open. */
export async function isNamed(file: FileHandle, name: string): Promise<boolean> {
  const found = await lstat(name).catch(() => undefined);
  const { ino, dev } = await file.stat();
  return found?.ino === ino && found.dev === dev;
}

interface OpenedFile {
  readonly file: FileHandle;
  readonly writable: boolean;
}

/** The file where it is a regular one of `bytes` bytes that `check` accepts; otherwise undefined. What is no file at all is removed. */
async function openWhole(
  name: string,
  bytes: number,
  check: (file: FileHandle) => Promise<boolean>,
): Promise<OpenedFile | undefined> {
  const opened = await openExisting(name);
  if (!opened) return undefined;
  let whole = false;
  try {
    const found = await opened.file.stat();
    whole = found.isFile() && found.size === bytes && (await check(opened.file));
  } finally {
    if (!whole) await opened.file.close();
  }
  return whole ? opened : undefined;
}

async function openExisting(name: string): Promise<OpenedFile | undefined> {
  // Not blocking, should there be a FIFO; not through a symlink.
  const flags = constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    return { file: await open(name, constants.O_RDWR | flags), writable: true };
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT") return undefined;
    // A symlink or a directory: replaced like any other file that is not ours.
    if (code === "ELOOP" || code === "EISDIR") {
      await rm(name, { force: true, recursive: true });
      return undefined;
    }
    if (code !== "EROFS" && code !== "EACCES" && code !== "EPERM") throw error;
    return { file: await open(name, constants.O_RDONLY | flags), writable: false };
  }
}

/** Makes the file `name` with what `fill` writes. */
async function publish(name: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  await removeLeftovers(path.dirname(name), Date.now());
  const temporary = temporaryName(name);
  const file = await open(temporary, "wx", 0o600);
  try {
    await fill(file).finally(() => file.close());
    await link(temporary, name);
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

export function temporaryName(name: string): string {
  return `${name}.tmp-${randomBytes(8).toString("hex")}`;
}

/** Removes what processes that were killed have left in a layer's directory. Resolves to their number. */
export async function removeLeftovers(directory: string, nowMs: number): Promise<number> {
  let removed = 0;
  for (const name of await readdir(directory)) {
    if (!name.includes(".tmp-")) continue;
    const file = path.join(directory, name);
    const found = await stat(file).catch(() => undefined);
    if (!found || nowMs - found.mtimeMs <= temporaryFileAgeMsMax) continue;
    await rm(file, { force: true });
    removed++;
  }
  return removed;
}
