/** Extracted layers as eviction and `skim cache ls` see them; what is in them extracted-layers.ts knows. */
import { randomBytes } from "node:crypto";
import { type FileHandle, lstat, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { systemErrorCode } from "../base/errors.js";
import { type FileLock, tryLockFile } from "../cache/file-lock.js";
import type { Removal } from "../cache/layer-eviction.js";
import { diskBytesIn, type LayerStock, namesIn, type StoredLayer } from "../cache/stored-layer.js";
import { type DiffId, isDigest } from "../image/digest.js";
import type { NativeBinding } from "../native/binding.js";

/** Goes up when PackedLayout or what the files mean changes. */
export const storeFormat = 1;

export function extractedLayersDirectory(cacheDir: string): string {
  return path.join(cacheDir, "layers", `v${storeFormat}`);
}

export interface StoredExtractedLayer extends StoredLayer {
  readonly kind: "extracted";
  readonly digest: DiffId;
  readonly directory: string;
}

export class ExtractedStock implements LayerStock {
  readonly #dir: string;
  readonly #native: Pick<NativeBinding, "tryLock">;

  constructor(cacheDir: string, native: Pick<NativeBinding, "tryLock">) {
    this.#dir = extractedLayersDirectory(cacheDir);
    this.#native = native;
  }

  async diskBytes(): Promise<number> {
    let bytes = 0;
    for (const { directory } of await this.#directories()) bytes += await diskBytesIn(directory);
    return bytes;
  }

  async list(): Promise<StoredExtractedLayer[]> {
    const layers: StoredExtractedLayer[] = [];
    for (const { digest, directory } of await this.#directories()) {
      const complete = await lstat(path.join(directory, "complete")).catch(() => undefined);
      const inUse = await withData(directory, async (data) => !this.#native.tryLock(data.fd, true));
      layers.push({
        kind: "extracted",
        digest,
        directory,
        diskBytes: await diskBytesIn(directory),
        lastUsedMs: complete?.mtimeMs ?? 0,
        inUse: inUse ?? false,
        remove: () => this.#remove(directory),
      });
    }
    return layers;
  }

  async #directories(): Promise<{ digest: DiffId; directory: string }[]> {
    const found: { digest: DiffId; directory: string }[] = [];
    for (const algorithm of await namesIn(this.#dir)) {
      for (const hex of await namesIn(path.join(this.#dir, algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest)) found.push({ digest, directory: path.join(this.#dir, algorithm, hex) });
      }
    }
    return found;
  }

  /** Layers that were being extracted, or removed, when the process was killed; not those that are now. */
  async removeLeftovers(): Promise<number> {
    let removed = 0;
    for (const algorithm of await namesIn(this.#dir)) {
      for (const name of await namesIn(path.join(this.#dir, algorithm))) {
        const match = /^([0-9a-f]+)\.[0-9a-f]+\.tmp$/.exec(name);
        if (!match) continue;
        const lock = await this.#lock(path.join(this.#dir, algorithm, match[1]!));
        if (!lock) continue;
        await rm(path.join(this.#dir, algorithm, name), { recursive: true, force: true });
        await lock.release();
        removed++;
      }
    }
    return removed;
  }

  /** Its name goes first, so that half of a layer is never found. */
  async #remove(directory: string): Promise<Removal> {
    const lock = await this.#lock(directory);
    if (!lock) return "busy";
    try {
      const inUse = await withData(directory, async (data) => {
        if (!this.#native.tryLock(data.fd, true)) return true;
        await removeByRename(directory);
        return false;
      });
      // A damaged one has no data.
      if (inUse === undefined) await removeByRename(directory);
      return inUse ? "busy" : "removed";
    } finally {
      await lock.release();
    }
  }

  async #lock(directory: string): Promise<FileLock | undefined> {
    return await tryLockFile(`${directory}.lock`, this.#native);
  }
}

async function removeByRename(directory: string): Promise<void> {
  const beside = `${directory}.${randomBytes(6).toString("hex")}.tmp`;
  await rename(directory, beside);
  await rm(beside, { recursive: true, force: true });
}

async function withData<T>(directory: string, use: (data: FileHandle) => Promise<T>): Promise<T | undefined> {
  let data: FileHandle;
  try {
    data = await open(path.join(directory, "0"), "r");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    return await use(data);
  } finally {
    await data.close();
  }
}
