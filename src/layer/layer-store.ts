import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { describeError, systemErrorCode } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { type Digest, digestAlgorithm, digestHex } from "../image/digest.js";
import type { LayerIndex } from "./layer-index.js";
import { decodeLayerIndex, encodeLayerIndex, layerIndexFormat } from "./layer-index-codec.js";

/**
 * Layer indexes on disk, so that a layer that several images share is indexed once: one file a digest and span size, below
 * `<cacheDir>/layer-indexes/v<format>/`.
 *
 * It is only a cache. What cannot be read is as good as absent, and what cannot be written is given up. No fsync: a file that
 * a crash has torn does not have its sha256. Files are written under a name of their own and renamed, so that several
 * processes can save the same index and a reader sees all of it or nothing.
 */
export class LayerStore {
  readonly #dir: string;
  readonly #logger: Logger;

  /** `cacheDir` is made when the first index is saved. */
  constructor(cacheDir: string, logger: Logger = silentLogger) {
    this.#dir = path.join(cacheDir, "layer-indexes", `v${layerIndexFormat}`);
    this.#logger = logger;
  }

  /** The index of a layer, or undefined where there is none of use; a damaged one is removed. Never rejects. */
  async load(digest: Digest, spanBytes: number): Promise<LayerIndex | undefined> {
    const file = this.#file(digest, spanBytes);
    let bytes: Buffer;
    try {
      bytes = await readFile(file);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") {
        this.#logger.debug({ file, error: describeError(error) }, "layer index not read");
      }
      return undefined;
    }
    let index: LayerIndex | undefined;
    try {
      index = decodeLayerIndex(bytes, digest, spanBytes);
    } catch (error) {
      this.#logger.debug({ file, error: describeError(error) }, "layer index not understood");
    }
    if (index === undefined) {
      this.#logger.debug({ file }, "damaged layer index removed");
      await rm(file, { force: true }).catch(() => {});
    }
    return index;
  }

  /** Keeps an index, in place of one that is there. Never rejects: where it cannot be kept, it will be made again. */
  async save(index: LayerIndex, spanBytes: number): Promise<void> {
    const file = this.#file(index.digest, spanBytes);
    const written = `${file}.${process.pid}.${randomBytes(6).toString("hex")}.tmp`;
    try {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(written, encodeLayerIndex(index, spanBytes), { flag: "wx" });
      await rename(written, file);
    } catch (error) {
      this.#logger.debug({ file, error: describeError(error) }, "layer index not kept");
      await rm(written, { force: true }).catch(() => {});
    }
  }

  #file(digest: Digest, spanBytes: number): string {
    return path.join(this.#dir, digestAlgorithm(digest), `${digestHex(digest)}.${spanBytes}`);
  }
}
