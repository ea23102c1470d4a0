/**
 * The two files that hold a layer, and how they come to be.
 *
 * `<cacheDir>/layers/<algorithm>/<hex>/data-<layout>` is the uncompressed layer as a sparse file, `spans-<layout>` beside it the
 * presence map. <layout> is the start of the layout's hash, which covers the digest of every span: processes that write to one data file
 * agree about every byte that belongs in it. (One file for all layouts would let a forged archive, which names a digest
 * that it does not have the bytes of, overwrite what another process has checked and is serving.)
 *
 * Files get their name complete, by link(2), which never replaces: of two processes that start at once, both end up with the same
 * files. A file that is not as it should be (truncated, another header) is unlinked and made anew, never mended in place: who
 * still has the old one open would see zeros where it has seen data.
 */
import { randomBytes } from "node:crypto";
import { constants, fstatSync } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import { type Digest, digestAlgorithm, digestHex, isDigest } from "../image/digest.js";
import { emptyMap, isMapFor, MAP_HEADER_BYTES, mapBytes } from "./presence-map.js";

/** Two processes that replace damaged files at the same time may undo each other's work; they do not go on for ever. */
const attemptsMax = 5;
/** A temporary file lives for milliseconds. One this old was left by a process that was killed. */
const temporaryFileAgeMsMax = 60 * 60 * 1000;

export interface LayerFileLayout {
  readonly digest: Digest;
  readonly uncompressedBytes: number;
  readonly spanCount: number;
  /** See layoutOf. */
  readonly layout: Buffer;
}

export class LayerFiles {
  readonly data: FileHandle;
  readonly map: FileHandle;
  /** False where the cache directory can only be read. */
  readonly writable: boolean;
  readonly #uncompressedBytes: number;

  constructor(data: FileHandle, map: FileHandle, writable: boolean, uncompressedBytes: number) {
    this.data = data;
    this.map = map;
    this.writable = writable;
    this.#uncompressedBytes = uncompressedBytes;
  }

  /** False once a file was deleted or truncated by somebody: then nothing more may be written, and its space should be given back. */
  areWhole(): boolean {
    const data = fstatSync(this.data.fd);
    return data.nlink > 0 && data.size === this.#uncompressedBytes && fstatSync(this.map.fd).nlink > 0;
  }

  /** Waits for the reads and writes under way. */
  async close(): Promise<void> {
    await Promise.all([this.data.close(), this.map.close()]);
  }
}

/** Opens the files of a layer, and makes what is missing or damaged. Throws what node:fs throws, and LOCAL_IO. */
export async function openLayerFiles(cacheDir: string, layer: LayerFileLayout): Promise<LayerFiles> {
  invariant(isDigest(layer.digest), "a layer in the cache is named by its digest");
  const layersDir = path.join(cacheDir, "layers");
  const layerDir = path.join(layersDir, digestAlgorithm(layer.digest), digestHex(layer.digest));
  await makePrivateDirectory(layersDir, layerDir);
  const name = layer.layout.toString("hex", 0, 8);
  const dataFile = path.join(layerDir, `data-${name}`);
  const mapFile = path.join(layerDir, `spans-${name}`);

  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const data = await openWhole(dataFile, layer.uncompressedBytes, async () => true);
    if (!data) {
      // What a map says is about a data file that is gone.
      await rm(mapFile, { force: true });
      await publish(dataFile, (file) => file.truncate(layer.uncompressedBytes));
      continue;
    }
    let map: OpenedFile | undefined;
    try {
      map = await openWhole(mapFile, mapBytes(layer.spanCount), async (file) => {
        const header = Buffer.alloc(MAP_HEADER_BYTES);
        await file.read(header, 0, header.length, 0);
        return isMapFor(header, layer.spanCount, layer.layout);
      });
      if (map) {
        const writable = data.writable && map.writable;
        return new LayerFiles(data.file, map.file, writable, layer.uncompressedBytes);
      }
    } finally {
      if (!map) await data.file.close();
    }
    await publish(mapFile, (file) => file.writeFile(emptyMap(layer.spanCount, layer.layout)));
  }
  throw new SkimError("LOCAL_IO", `cache files in ${layerDir}: replaced by others again and again`);
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

interface OpenedFile {
  readonly file: FileHandle;
  readonly writable: boolean;
}

/** The file where it is a regular one of `bytes` bytes that `check` accepts; otherwise nothing, and what was in its place is gone. */
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
  if (whole) return opened;
  await rm(name, { force: true, recursive: true });
  return undefined;
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

/** Makes the file `name` with what `fill` writes, unless another process was faster: then there is that one's. */
async function publish(name: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  await removeLeftovers(path.dirname(name));
  const temporary = `${name}.tmp-${randomBytes(8).toString("hex")}`;
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

async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.includes(".tmp-")) continue;
    const file = path.join(directory, name);
    const found = await stat(file).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > temporaryFileAgeMsMax) await rm(file, { force: true });
  }
}
