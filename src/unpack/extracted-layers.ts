/**
 * Layers that were extracted once, for all images that have them: one directory a diffId below `<cacheDir>/layers/v<format>/`.
 *
 * ```
 * sha256/<diffId>/0          data of all files, as PackedLayout has it
 * sha256/<diffId>/entries    the layer's entries (layer-index-codec.ts), which end in their own sha256
 * sha256/<diffId>/complete   written last: length and CRC-32 of the data, and the boot that they were written in
 * sha256/<diffId>.lock       held by whoever extracts the layer, or removes it
 * sha256/<diffId>.<random>.tmp   being extracted, or left by a process that was killed; renamed when it is complete
 * ```
 *
 * A layer is its uncompressed bytes, so what is kept here never goes out of date. Nothing is synced: within one boot the page cache is the truth, and
 * in a later one the data are compared with their CRC-32 before they are used first. What is damaged is removed and extracted again. Whoever has
 * a layer open holds a shared lock on its data, and the time of `complete` says when it was last used: for eviction (extracted-stock.ts).
 */
import { randomBytes } from "node:crypto";
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  utimes,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { invariant, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { lockFile } from "../cache/file-lock.js";
import { type DiffId, type Digest, digestAlgorithm, digestHex } from "../image/digest.js";
import type { LayerIndex } from "../layer/layer-index.js";
import { decodeLayerIndex, encodeLayerIndex } from "../layer/layer-index-codec.js";
import type { NativeBinding } from "../native/binding.js";
import { ExtractedStock, extractedLayersDirectory, storeFormat } from "./extracted-stock.js";
import { inStore } from "./layer-store-error.js";
import { PackedLayout } from "./packed-layout.js";

const completeSchema = z.object({
  format: z.literal(storeFormat),
  dataBytes: z.number().int().nonnegative(),
  dataCrc32: z.number().int().nonnegative(),
  bootId: z.string(),
});
type Complete = z.infer<typeof completeSchema>;

/** An extracted layer that is open. */
export interface ExtractedLayer {
  readonly index: LayerIndex;
  readonly layout: PackedLayout;
  /** Of the packed file; stays open, and of use, until `close`. */
  readonly data: FileHandle;
  /** It was here already. */
  readonly reused: boolean;
  close(): Promise<void>;
}

/** Reads the layer once: writes its data into the file `0` of `directory`. Resolves to the layer's index without spans, and the data's CRC-32. */
export type ExtractLayer = (directory: FileHandle) => Promise<{ index: LayerIndex; dataCrc32: number }>;

/** Whether the data of a layer are what they were when it was extracted. Reads all of them. */
export async function checkExtractedLayer(dir: string, diffId: DiffId): Promise<boolean> {
  const complete = await readComplete(dir);
  const data = await open(path.join(dir, "0"), "r").catch(absent);
  try {
    const entries = await readFile(path.join(dir, "entries")).catch(absent);
    const index = entries && decodeLayerIndex(entries, keyOf(diffId), 0);
    if (!complete || !data || !index || (await data.stat()).size !== complete.dataBytes) return false;
    return (await dataCrc32(data, index)) === complete.dataCrc32;
  } finally {
    await data?.close();
  }
}

export interface ExtractedLayersOptions {
  readonly cacheDir: string;
  readonly native: Pick<NativeBinding, "tryLock">;
  readonly logger: Logger;
}

export class ExtractedLayers {
  readonly #dir: string;
  readonly #stock: ExtractedStock;
  readonly #native: ExtractedLayersOptions["native"];
  readonly #logger: Logger;

  constructor({ cacheDir, native, logger }: ExtractedLayersOptions) {
    this.#dir = extractedLayersDirectory(cacheDir);
    this.#stock = new ExtractedStock(cacheDir, native);
    this.#native = native;
    this.#logger = logger;
  }

  /**
   * The layer `diffId`, which `extract` is asked for where it is not here. Of several that want it at the same time, in this process or others, one
   * extracts it and the others wait; when that one fails, the next tries. Throws what `extract` throws; LayerStoreError where the store cannot
   * be used, LOCAL_IO where the disk is full; CANCELLED.
   */
  async obtain(diffId: DiffId, extract: ExtractLayer, signal?: AbortSignal): Promise<ExtractedLayer> {
    const dir = path.join(this.#dir, digestAlgorithm(diffId), digestHex(diffId));
    return await inStore(dir, async () => {
      const kept = await this.#open(dir, diffId);
      if (kept) return kept;
      await mkdir(path.dirname(dir), { recursive: true, mode: 0o700 });
      const lock = await lockFile(`${dir}.lock`, this.#native, signal);
      try {
        const made = await this.#open(dir, diffId);
        if (made) return made;
        await this.#removeUnfinished(dir);
        return await this.#extract(dir, extract);
      } finally {
        await lock.release();
      }
    });
  }

  /** Removes what killed processes have left, but for layers that are being extracted now. Never rejects. */
  async sweep(): Promise<void> {
    await this.#stock.removeLeftovers().catch(() => {});
  }

  /** With the lock of `dir` held: nobody else works in these. */
  async #removeUnfinished(dir: string): Promise<void> {
    const prefix = `${path.basename(dir)}.`;
    for (const name of await readdir(path.dirname(dir))) {
      if (!name.startsWith(prefix) || !name.endsWith(".tmp")) continue;
      this.#logger.debug({ directory: name }, "unfinished layer removed");
      await rm(path.join(path.dirname(dir), name), { recursive: true, force: true });
    }
  }

  async #extract(dir: string, extract: ExtractLayer): Promise<ExtractedLayer> {
    const work = `${dir}.${randomBytes(6).toString("hex")}.tmp`;
    await mkdir(work, { mode: 0o700 });
    try {
      const directory = await open(work, "r");
      let extracted: Awaited<ReturnType<ExtractLayer>>;
      try {
        extracted = await extract(directory);
      } finally {
        await directory.close();
      }
      const { index, dataCrc32 } = extracted;
      const layout = PackedLayout.of(index.entries);
      // Also where no file has any bytes.
      const data = await open(path.join(work, "0"), "a+", 0o600);
      try {
        const complete = { dataBytes: layout.bytes, dataCrc32, bootId: await bootId() };
        invariant(
          (await data.stat()).size === complete.dataBytes,
          "a layer's data end where its layout ends",
        );
        await writeFile(path.join(work, "entries"), encodeLayerIndex(underDiffId(index), 0), { mode: 0o600 });
        await writeComplete(work, { format: storeFormat, ...complete });
        // What was there is damaged, or it would have been taken.
        await rm(dir, { recursive: true, force: true });
        await rename(work, dir);
        return { index, layout, data, reused: false, close: () => data.close() };
      } catch (error) {
        await data.close();
        throw error;
      }
    } catch (error) {
      await rm(work, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  /** The layer that is kept in `dir`; undefined where there is none, or a damaged one. */
  async #open(dir: string, diffId: DiffId): Promise<ExtractedLayer | undefined> {
    const complete = await readComplete(dir);
    if (complete === undefined) return undefined;
    const data = await open(path.join(dir, "0"), "r").catch(absent);
    if (data === undefined) return undefined;
    try {
      // Not to be had where the layer is being removed just now; what comes of it then does not matter.
      this.#native.tryLock(data.fd, false);
      const entries = await readFile(path.join(dir, "entries"));
      const index = decodeLayerIndex(entries, keyOf(diffId), 0);
      if (index !== undefined && (await data.stat()).size === complete.dataBytes) {
        const layout = PackedLayout.of(index.entries);
        const now = await bootId();
        const isWhole = complete.bootId === now || (await dataCrc32(data, index)) === complete.dataCrc32;
        if (isWhole) {
          if (complete.bootId !== now) await writeComplete(dir, { ...complete, bootId: now });
          await noteUse(dir);
          return {
            index,
            layout,
            data,
            reused: true,
            close: () => data.close(),
          };
        }
      }
    } catch (error) {
      await data.close();
      if (systemErrorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    await data.close();
    this.#logger.warn({ directory: dir }, "damaged layer found; it is extracted again");
    return undefined;
  }
}

/** The codec checks the digest that an index is read for; here that is the diffId, as blobs of several compressions have one. */
function underDiffId(index: LayerIndex): LayerIndex {
  return { ...index, digest: keyOf(index.diffId) };
}

function keyOf(diffId: DiffId): Digest {
  return diffId as string as Digest;
}

async function readComplete(dir: string): Promise<Complete | undefined> {
  const text = await readFile(path.join(dir, "complete"), "utf8").catch(absent);
  if (text === undefined) return undefined;
  try {
    return completeSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Whole or not at all: others may be reading it. */
async function writeComplete(dir: string, complete: Complete): Promise<void> {
  const file = path.join(dir, "complete");
  const written = `${file}.${randomBytes(6).toString("hex")}`;
  await writeFile(written, JSON.stringify(complete), { mode: 0o600 });
  await rename(written, file);
}

/** A hint: a store that cannot be written is good enough to read from. */
async function noteUse(dir: string): Promise<void> {
  const now = new Date();
  await utimes(path.join(dir, "complete"), now, now).catch(() => {});
}

async function dataCrc32(data: FileHandle, { entries }: LayerIndex): Promise<number> {
  const layout = new PackedLayout();
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  let crc = 0;
  for (const extent of entries.flatMap((entry) => entry.extents)) {
    let at = layout.place(extent);
    for (let left = extent.length; left > 0; ) {
      const { bytesRead } = await data.read(buffer, 0, Math.min(left, buffer.length), at);
      if (bytesRead === 0) return -1;
      crc = crc32(buffer.subarray(0, bytesRead), crc);
      at += bytesRead;
      left -= bytesRead;
    }
  }
  return crc;
}

let bootIdText: string | undefined;

async function bootId(): Promise<string> {
  bootIdText ??= (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return bootIdText;
}

function absent(error: unknown): undefined {
  if (systemErrorCode(error) === "ENOENT") return undefined;
  throw error;
}
