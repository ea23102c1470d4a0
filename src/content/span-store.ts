/**
 * Verified spans that are at hand: in memory, on their way to disk, or on disk. A span that was fetched is in here from the moment
 * its run hands it over, so there is no gap in which a second reader would fetch it once more.
 */
import type { Counters } from "../base/metrics.js";
import { Semaphore } from "../base/semaphore.js";
import type { FilesListener, LayerCache } from "../cache/layer-cache.js";
import type { MemoryPart } from "../cache/memory-cache.js";
import type { SpanCache } from "../cache/span-cache.js";
import type { SpanUse } from "../cache/use-times.js";
import type { CacheHandle } from "../native/binding.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";
import type { ContentCounter } from "./counters.js";
import type { SpanPart } from "./read-plan.js";

/** Bytes waiting to be written. Beyond it fetching pauses: a disk slower than the network must not fill memory. */
const writingBytesMax = 32 * 1024 * 1024;
/** Of libuv's four threads: the others are for inflating and for reads. */
const writesAtOnce = 2;

export interface SpanStoreOptions {
  readonly archive: ContentArchive;
  readonly cache: SpanCache | undefined;
  readonly memory: MemoryPart;
  readonly counters: Counters<ContentCounter>;
}

export class SpanStore {
  readonly #options: SpanStoreOptions;
  readonly #memory: MemoryPart;
  /** By the layer's first span: layers that are the same blob share theirs. */
  readonly #layerCaches = new Map<number, LayerCache>();
  readonly #writing = new Map<number, Uint8Array>();
  readonly #writes = new Set<Promise<void>>();
  readonly #writeSlots = new Semaphore(writesAtOnce);
  #writingBytes = 0;

  constructor(options: SpanStoreOptions) {
    this.#options = options;
    this.#memory = options.memory;
  }

  /** Fills `part.into` where that needs no waiting, and says from where. */
  serve(part: SpanPart): "memory" | "disk" | undefined {
    const held = this.held(part.span);
    if (held) {
      copyPart(part, held);
      return "memory";
    }
    const layer = this.#options.archive.layers[part.layer]!;
    const cache = this.#layerCaches.get(layer.spanFirst);
    return cache?.readVerified(part.span - layer.spanFirst, part.spanOffset, part.into) ? "disk" : undefined;
  }

  /** The bytes of a span in memory. */
  held(span: number): Uint8Array | undefined {
    return this.#memory.get(span) ?? this.#writing.get(span);
  }

  /** Opens the layer's files where there is a disk cache; to be called before `onDisk`. */
  async openLayer(layer: ContentLayer): Promise<void> {
    await this.#cacheOf(layer)?.open();
  }

  /** True where nothing of the layer is on disk, without looking further. */
  isUnknown(layer: ContentLayer): boolean {
    return this.#cacheOf(layer)?.isUnknown ?? true;
  }

  /** Lets go of the layer's files on disk where somebody has deleted them. */
  releaseStale(layer: ContentLayer): void {
    this.#cacheOf(layer)?.releaseStale();
  }

  /** Opens the layer's files where there is a disk cache, and tells `listener` of them now and whenever they change; see LayerCache.watch. */
  watchFiles(layer: ContentLayer, listener: FilesListener): () => void {
    const cache = this.#cacheOf(layer);
    if (!cache) return () => {};
    const stop = cache.watch(listener);
    void cache.open();
    return stop;
  }

  /** True where the span is said to be on disk; `load` finds out. */
  onDisk(layer: ContentLayer, span: number): boolean {
    return this.#layerCaches.get(layer.spanFirst)?.has(span - layer.spanFirst) ?? false;
  }

  /** A whole span from disk, verified now; undefined where it is not there, or was damaged (and is no longer there). */
  async load(layer: ContentLayer, span: number): Promise<Uint8Array | undefined> {
    const loaded = await this.#loadFromDisk(layer, span);
    return typeof loaded === "string" ? undefined : loaded;
  }

  /** Reads a span from disk whatever is known of it. A damaged one is dropped. */
  async check(layer: ContentLayer, span: number): Promise<"intact" | "damaged" | "absent"> {
    const loaded = await this.#loadFromDisk(layer, span);
    return typeof loaded === "string" ? loaded : "intact";
  }

  /** Verifies spans of the layer that are on disk, as LayerCache.verifyAhead does. */
  async verifyAhead(layer: ContentLayer, spans: readonly number[]): Promise<void> {
    await this.#cacheOf(layer)?.verifyAhead(spans.map((span) => span - layer.spanFirst));
  }

  /** When the spans of the layer that are on disk were last used. */
  usedSpans(layer: ContentLayer): SpanUse[] {
    const uses = this.#cacheOf(layer)?.usedSpans() ?? [];
    return uses.map(({ span, usedSec }) => ({ span: layer.spanFirst + span, usedSec }));
  }

  /** True where what is fetched of the layer finds its place on disk, as far as is known. */
  keeps(layer: ContentLayer): boolean {
    return this.#cacheOf(layer)?.accepts ?? false;
  }

  /** As `keeps`, when the cache has made the room that it is just making. */
  async willKeep(layer: ContentLayer): Promise<boolean> {
    await this.openLayer(layer);
    if (!this.keeps(layer)) await this.#options.cache?.settled();
    return this.keeps(layer);
  }

  /**
   * Takes a verified span that was fetched. It is held in memory where a reader asked for it or there is no disk to keep it, and
   * written to disk in the background. `bytes` must not change afterwards.
   */
  put(layer: ContentLayer, span: number, bytes: Uint8Array, wanted: boolean): void {
    const keeps = this.keeps(layer);
    if (wanted || !keeps) this.#memory.set(span, bytes);
    if (!keeps || this.#writing.has(span)) return;
    this.#writing.set(span, bytes);
    this.#writingBytes += bytes.length;
    const write = this.#writeSlots.run(async () => {
      const written = await this.#cacheOf(layer)!.write(span - layer.spanFirst, bytes);
      if (!written) this.#options.counters.add("cache_write_failures_total");
      this.#writing.delete(span);
      this.#writingBytes -= bytes.length;
    });
    this.#writes.add(write);
    void write.finally(() => this.#writes.delete(write));
  }

  /** See LayerCache.storing; `stored` is to be called with what it gives. */
  storing(layer: ContentLayer, span: number): CacheHandle | undefined {
    return this.#cacheOf(layer)?.storing(span - layer.spanFirst);
  }

  /** True where a span that native code was to store is on disk. */
  stored(layer: ContentLayer, span: number, handle: CacheHandle): boolean {
    return this.#cacheOf(layer)?.stored(span - layer.spanFirst, handle) ?? false;
  }

  /** Holds the bytes of a span that is on disk: a reader has asked for it, and may soon ask for more of it. */
  hold(span: number, bytes: Uint8Array): void {
    this.#memory.set(span, bytes);
  }

  /** Writes to disk what is in memory of a span; nothing where that is nothing. */
  keepHeld(layer: ContentLayer, span: number): void {
    const bytes = this.#memory.get(span);
    if (bytes) this.put(layer, span, bytes, false);
  }

  /** Resolves when there is room for more spans to be put. */
  async room(): Promise<void> {
    while (this.#writingBytes > writingBytesMax) await Promise.race(this.#writes);
  }

  /** Resolves when everything that was put is on disk, or has failed to be. */
  async drain(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes);
  }

  /** Lets go of memory, and of its layers in the disk cache. */
  async close(): Promise<void> {
    await this.drain();
    this.#memory.clear();
    const layers = [...this.#layerCaches.values()];
    this.#layerCaches.clear();
    await Promise.all(layers.map((layer) => this.#options.cache?.release(layer)));
  }

  async #loadFromDisk(layer: ContentLayer, span: number): Promise<Uint8Array | "damaged" | "absent"> {
    const loaded = (await this.#cacheOf(layer)?.load(span - layer.spanFirst)) ?? "absent";
    if (loaded === "damaged") this.#options.counters.add("verification_failures_total");
    return loaded;
  }

  #cacheOf(layer: ContentLayer): LayerCache | undefined {
    const { archive, cache } = this.#options;
    let found = this.#layerCaches.get(layer.spanFirst);
    if (!found && cache) {
      found = cache.layer({
        digest: layer.digest,
        uncompressedBytes: layer.uncompressedBytes,
        spanCount: layer.spanCount,
        span: (index) => archive.span(layer.spanFirst + index),
      });
      this.#layerCaches.set(layer.spanFirst, found);
    }
    return found;
  }
}

/** Copies what `part` wants of its span. */
export function copyPart(part: SpanPart, span: Uint8Array): void {
  part.into.set(span.subarray(part.spanOffset, part.spanOffset + part.into.length));
}
