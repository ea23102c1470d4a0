import { setMaxListeners } from "node:events";
import { SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { noProgress, type Progress } from "../base/progress.js";
import { Semaphore } from "../base/semaphore.js";
import { SingleFlight } from "../base/single-flight.js";
import { type DiffId, type Digest, digestAlgorithm, digestHex } from "../image/digest.js";
import type { Descriptor } from "../image/manifest.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageSource } from "../registry/image-source.js";
import { indexLayer, type LayerLimits } from "./index-layer.js";
import type { LayerIndex } from "./layer-index.js";
import { classifyLayer, mediaTypeWarning } from "./layer-kind.js";
import type { LayerStore } from "./layer-store.js";

export interface LayerIndexerOptions {
  readonly store: LayerStore;
  readonly native: NativeBinding;
  readonly settings: LayerLimits;
  readonly logger?: Logger;
}

/** A layer of a manifest, and what the config says of it. */
export interface LayerToIndex {
  readonly descriptor: Descriptor;
  readonly diffId?: DiffId;
}

export interface IndexLayersOptions {
  readonly spanBytes: number;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/**
 * A connection to a registry seldom fills the line, and one layer keeps one thread of libuv's pool busy; the pool has four, and
 * the fourth is left for files and name lookups.
 */
const LAYERS_AT_ONCE = 3;

/**
 * Indexes the layers of images: from the store where they are known, else side by side from their blobs. A layer that is wanted twice at
 * the same time, in one image or by two callers, is read once.
 */
export class LayerIndexer {
  readonly #options: LayerIndexerOptions;
  readonly #logger: Logger;
  readonly #places = new Semaphore(LAYERS_AT_ONCE);
  readonly #flights = new SingleFlight<string, LayerIndex>();

  constructor(options: LayerIndexerOptions) {
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
  }

  /**
   * The indexes of `layers`, in their order; warnings say which layer they are about. The first layer that fails ends the others and
   * is the one reported, once all of them have ended.
   * Throws as indexLayer does; LAYER_UNSUPPORTED for foreign and encrypted layers before anything is fetched.
   */
  async index(
    source: Pick<ImageSource, "readBlob">,
    layers: readonly LayerToIndex[],
    options: IndexLayersOptions,
  ): Promise<LayerIndex[]> {
    const { spanBytes, signal } = options;
    if (signal?.aborted) throw cancelled(signal);
    const wanted = layers.map(({ descriptor, diffId }, i) => {
      const where = layerName(descriptor.digest, i, layers.length);
      const oddities = classifyLayer(descriptor, where);
      return {
        descriptor,
        diffId,
        where,
        oddities,
        key: `${descriptor.digest} ${descriptor.size} ${diffId} ${spanBytes}`,
      };
    });

    const abort = new AbortController();
    // One listener a layer is no leak.
    setMaxListeners(0, abort.signal);
    const onAbort = () => abort.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const passes: Array<{ signal: AbortSignal; settled: Promise<unknown> }> = [];
    const indexes = new Map<string, LayerIndex>();
    const once = wanted.filter((layer, i) => wanted.findIndex(({ key }) => key === layer.key) === i);
    await Promise.all(
      once.map(async (layer) => {
        const pass = (passSignal: AbortSignal) => {
          const work = this.#places.run(() => this.#indexOne(source, layer, options, passSignal), passSignal);
          passes.push({ signal: passSignal, settled: work.catch(() => {}) });
          return work;
        };
        try {
          indexes.set(layer.key, await this.#joinPass(layer.key, pass, abort.signal));
        } catch (error) {
          // Only the first reason is kept.
          abort.abort(error);
        }
      }),
    );
    signal?.removeEventListener("abort", onAbort);
    if (abort.signal.aborted) {
      // Passes of ours that another call has joined go on, and are not waited for.
      await Promise.all(passes.filter((pass) => pass.signal.aborted).map((pass) => pass.settled));
      throw signal?.aborted && abort.signal.reason === signal.reason
        ? cancelled(signal)
        : abort.signal.reason;
    }
    return wanted.map(({ descriptor, key, where, oddities }) => {
      const index = indexes.get(key)!;
      const lie = mediaTypeWarning(descriptor.mediaType, index.compression);
      const warnings = [...oddities, ...(lie ? [lie] : []), ...index.warnings];
      return { ...index, warnings: warnings.map((sentence) => `${where}: ${sentence}`) };
    });
  }

  /** Joins a pass over the same layer or starts one. A pass of another caller may fail for a reason of its own; then ours is made. */
  async #joinPass(
    key: string,
    pass: (signal: AbortSignal) => Promise<LayerIndex>,
    signal: AbortSignal,
  ): Promise<LayerIndex> {
    for (;;) {
      const joined = this.#flights.has(key);
      try {
        return await this.#flights.run(key, pass, signal);
      } catch (error) {
        if (!joined || signal.aborted) throw error;
      }
    }
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
      await store.save(index, spanBytes);
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

interface NamedLayer {
  readonly descriptor: Descriptor;
  readonly diffId: DiffId | undefined;
  readonly where: string;
}

function layerName(digest: Digest, position: number, count: number): string {
  return `layer ${position + 1} of ${count}, ${digestAlgorithm(digest)}:${digestHex(digest).slice(0, 12)}...`;
}

function cancelled(signal: AbortSignal): SkimError {
  return new SkimError("CANCELLED", "indexing layers was cancelled", { cause: signal.reason });
}
