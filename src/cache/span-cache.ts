/**
 * The disk cache: uncompressed layers as sparse files, shared by all images, mounts and processes of a host.
 *
 * Layout of the directory in layer-files.ts, the rules of one layer in layer-cache.ts. Nothing in it is needed: it may be deleted at any
 * time, also in part and under running mounts, and nothing is ever synced to disk. No locks are taken: a span's byte in the presence
 * map is set after its bytes were written, processes that share a data file only ever write the same bytes to it, and
 * each process verifies a span before it uses it for the first time.
 */
import type { Logger } from "../base/logger.js";
import { silentLogger } from "../base/logger.js";
import { loadNative } from "../native/load.js";
import { type CachedLayer, layoutOf } from "./cached-layer.js";
import { LayerCache } from "./layer-cache.js";

/** Long enough that a full disk costs nothing, short enough that the cache works again soon after somebody made room. */
const retryAfterMsDefault = 30_000;
/** How often open files are looked at for having been deleted: until they are closed their space is taken. */
const releaseIntervalMs = 30_000;

export interface SpanCacheOptions {
  readonly logger?: Logger;
  /** How long a layer goes without the disk after that has failed. */
  readonly retryAfterMs?: number;
}

export class SpanCache {
  readonly #cacheDir: string;
  readonly #logger: Logger;
  readonly #retryAfterMs: number;
  readonly #layers = new Map<string, LayerCache>();
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  /** Touches nothing yet: files are opened when a layer is first used. Close it with `close`. */
  static open(cacheDir: string, options: SpanCacheOptions = {}): SpanCache {
    return new SpanCache(cacheDir, options);
  }

  private constructor(cacheDir: string, options: SpanCacheOptions) {
    this.#cacheDir = cacheDir;
    this.#logger = options.logger ?? silentLogger;
    this.#retryAfterMs = options.retryAfterMs ?? retryAfterMsDefault;
    this.#timer = setInterval(() => this.releaseDeleted(), releaseIntervalMs).unref();
  }

  /** The cache of a layer: the same object for the same digest and spans. Two file descriptors from its first use on, until `close`. */
  layer(layer: CachedLayer): LayerCache {
    const layout = layoutOf(layer);
    const key = `${layer.digest}/${layout.toString("hex")}`;
    let found = this.#layers.get(key);
    if (!found) {
      found = new LayerCache(this.#cacheDir, layer, layout, {
        logger: this.#logger,
        native: loadNative(),
        retryAfterMs: this.#retryAfterMs,
      });
      this.#layers.set(key, found);
      if (this.#closed) void found.close();
    }
    return found;
  }

  /** Closes files that were deleted under us, so that their space comes free. Done every 30 seconds anyway. */
  releaseDeleted(): void {
    for (const layer of this.#layers.values()) layer.releaseDeleted();
  }

  /** Waits for reads and writes under way and closes all files. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await Promise.all([...this.#layers.values()].map((layer) => layer.close()));
  }
}
