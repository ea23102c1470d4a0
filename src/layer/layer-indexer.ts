import { type Logger, silentLogger } from "../base/logger.js";
import { noProgress, type Progress } from "../base/progress.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageSource } from "../registry/image-source.js";
import { indexLayer, type LayerLimits } from "./index-layer.js";
import type { LayerIndex } from "./layer-index.js";
import { LayerPasses, type LayerToRead, type NamedLayer } from "./layer-passes.js";
import type { LayerStore } from "./layer-store.js";

export interface LayerIndexerOptions {
  readonly store: LayerStore;
  readonly native: NativeBinding;
  readonly settings: LayerLimits;
  readonly logger?: Logger;
}

export interface IndexLayersOptions {
  readonly spanBytes: number;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** Indexes the layers of images: from the store where they are known, else from their blobs (LayerPasses). */
export class LayerIndexer {
  readonly #options: LayerIndexerOptions;
  readonly #logger: Logger;
  readonly #passes = new LayerPasses<LayerIndex>();
  /** Of layer indexes that are being kept. */
  readonly #saves = new Map<string, Promise<void>>();

  constructor(options: LayerIndexerOptions) {
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
  }

  /**
   * The indexes of `layers`, in their order, as LayerPasses.run. New ones are kept in the store, which goes on when this has settled (`settled`).
   * Throws as LayerPasses.run does, and as indexLayer.
   */
  async index(
    source: Pick<ImageSource, "readBlob" | "rejectBytes">,
    layers: readonly LayerToRead[],
    options: IndexLayersOptions,
  ): Promise<LayerIndex[]> {
    return await this.#passes.run(layers, {
      pass: (layer, signal) => this.#indexOne(source, layer, options, signal),
      purpose: String(options.spanBytes),
      doing: "indexing layers",
      rejectBytes: source.rejectBytes?.bind(source),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  }

  /** Resolves when all layer indexes are kept that are being kept now. To be awaited before the process or the cache directory goes. */
  async settled(): Promise<void> {
    await Promise.all(this.#saves.values());
  }

  async #indexOne(
    source: Pick<ImageSource, "readBlob">,
    { descriptor, diffId, where }: NamedLayer,
    { spanBytes, progress }: IndexLayersOptions,
    signal: AbortSignal,
  ): Promise<LayerIndex> {
    const { store, native, settings } = this.#options;
    const { digest, size } = descriptor;
    const task = (progress ?? noProgress).start(where, size);
    const key = `${digest} ${spanBytes}`;
    await this.#saves.get(key);
    const stored = await store.load(digest, spanBytes);
    // Where manifest or config contradict the index, a pass over the bytes finds the proper words for it.
    if (stored?.compressedBytes === size && (diffId === undefined || stored.diffId === diffId)) {
      task.done("already indexed");
      return stored;
    }
    const started = performance.now();
    // A pass that fails may leave a read waiting for the network: this ends it.
    const ended = new AbortController();
    try {
      const index = await indexLayer(
        source.readBlob(descriptor, { signal: AbortSignal.any([signal, ended.signal]) }),
        {
          digest,
          size,
          spanBytes,
          settings,
          native,
          where,
          progress: task,
          signal,
          ...(diffId ? { diffId } : {}),
        },
      );
      // Nobody waits for it: what comes next waits for the network and the disk as well.
      this.#saves.set(
        key,
        store.save(index, spanBytes).finally(() => this.#saves.delete(key)),
      );
      task.done();
      this.#logger.debug(
        {
          layer: digest,
          compressedBytes: size,
          uncompressedBytes: index.uncompressedBytes,
          entries: index.entries.length,
          durationMs: Math.round(performance.now() - started),
        },
        "layer indexed",
      );
      return index;
    } catch (error) {
      task.done("failed");
      throw error;
    } finally {
      ended.abort();
    }
  }
}
