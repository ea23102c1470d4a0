/**
 * The disk cache: uncompressed layers as sparse files, shared by all images, mounts and processes of a host.
 *
 * Layout of the directory in layer-files.ts, the rules of one layer in layer-cache.ts. Nothing in it is needed: it may be deleted at any
 * time, also in part and under running mounts, and nothing is ever synced to disk. Readers and writers do not wait for each other: a span's byte in the
 * presence map is set after its bytes were written, processes that share a data file only ever write the same bytes to it, and
 * each process verifies a span before it uses it for the first time. What a limit takes away is told in evictor.ts.
 */
import type { Logger } from "../base/logger.js";
import { silentLogger } from "../base/logger.js";
import { loadNative } from "../native/load.js";
import { type CachedLayer, layoutOf } from "./cached-layer.js";
import { LayerCache } from "./layer-cache.js";
import type { Clock } from "./use-times.js";

/** Long enough that a full disk costs nothing, short enough that the cache works again soon after somebody made room. */
const retryAfterMsDefault = 30_000;
/** How often open files are looked at for having been deleted or replaced: until they are closed their space is taken. */
const releaseIntervalMs = 5_000;
/** Fine enough to tell cold from warm, rare enough to cost nothing. */
const recordUseIntervalMs = 60_000;

export interface SpanCacheOptions {
  readonly logger?: Logger;
  /** How long a layer goes without the disk after that has failed. */
  readonly retryAfterMs?: number;
  /** Default: Date.now. */
  readonly clock?: Clock;
  /** False for who looks at everything: what is only checked has not been used. Default: true. */
  readonly recordsUse?: boolean;
  /** False while nothing more should be written. */
  readonly mayWrite?: () => boolean;
  /** Resolves when no room is being made any more, which is a reason for `mayWrite` to be false. */
  readonly settled?: () => Promise<void>;
  /** Is told of every span that was written, and of a disk that is full (0 bytes). */
  readonly onWritten?: (bytes: number, isFull: boolean) => void;
}

export class SpanCache {
  readonly #cacheDir: string;
  readonly #logger: Logger;
  readonly #retryAfterMs: number;
  readonly #layers = new Map<string, { readonly cache: LayerCache; users: number }>();
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #options: SpanCacheOptions;
  #closed = false;
  /** Time of performance.now(). */
  #writeAgainAtMs = 0;

  /** Touches nothing yet: files are opened when a layer is first used. Close it with `close`. */
  static open(cacheDir: string, options: SpanCacheOptions = {}): SpanCache {
    return new SpanCache(cacheDir, options);
  }

  private constructor(cacheDir: string, options: SpanCacheOptions) {
    this.#cacheDir = cacheDir;
    this.#logger = options.logger ?? silentLogger;
    this.#retryAfterMs = options.retryAfterMs ?? retryAfterMsDefault;
    this.#options = options;
    this.#timers = [
      setInterval(() => this.releaseStale(), releaseIntervalMs).unref(),
      setInterval(() => void this.recordUse(), recordUseIntervalMs).unref(),
    ];
  }

  /**
   * The cache of a layer: the same object for the same digest and spans. Two file descriptors from its first use on, until `close`, or until everybody who
   * has got it has released it.
   */
  layer(layer: CachedLayer): LayerCache {
    const layout = layoutOf(layer);
    const key = `${layer.digest}/${layout.toString("hex")}`;
    let found = this.#layers.get(key);
    if (!found) {
      const cache = new LayerCache(this.#cacheDir, layer, layout, {
        logger: this.#logger,
        native: loadNative(),
        retryAfterMs: this.#retryAfterMs,
        clock: this.#options.clock ?? Date.now,
        recordsUse: this.#options.recordsUse ?? true,
        mayWrite: () => performance.now() >= this.#writeAgainAtMs && (this.#options.mayWrite?.() ?? true),
        onWritten: (bytes) => this.#options.onWritten?.(bytes, false),
        onFull: () => this.#options.onWritten?.(0, true),
      });
      found = { cache, users: 0 };
      this.#layers.set(key, found);
      if (this.#closed) void cache.close();
    }
    found.users++;
    return found.cache;
  }

  /** Gives back what `layer` gave. Waits for reads and writes under way where nobody else has it. */
  async release(layer: LayerCache): Promise<void> {
    for (const [key, found] of this.#layers) {
      if (found.cache !== layer || --found.users > 0) continue;
      this.#layers.delete(key);
      await layer.close();
    }
  }

  /** See LayerCache.releaseStale. Done every few seconds anyway. */
  releaseStale(): void {
    for (const { cache } of this.#layers.values()) cache.releaseStale();
  }

  /** See LayerCache.recordUse. Done every minute anyway. */
  async recordUse(): Promise<void> {
    await Promise.all([...this.#layers.values()].map(({ cache }) => cache.recordUse()));
  }

  /** Writes nothing for so long: others need the disk. What is fetched meanwhile is served without. */
  pauseWrites(pauseMs: number): void {
    this.#writeAgainAtMs = performance.now() + pauseMs;
  }

  /** Resolves when no room is being made: what the cache does not take then, it will not take soon. */
  async settled(): Promise<void> {
    await this.#options.settled?.();
  }

  /** Waits for reads and writes under way and closes all files. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all([...this.#layers.values()].map(({ cache }) => cache.close()));
  }
}
