import { setMaxListeners } from "node:events";
import { type ErrorCode, isSkimError, SkimError } from "../base/errors.js";
import { Semaphore } from "../base/semaphore.js";
import { SingleFlight } from "../base/single-flight.js";
import type { DiffId } from "../image/digest.js";
import type { Descriptor } from "../image/manifest.js";
import type { CompressionName } from "../native/binding.js";
import { classifyLayer, mediaTypeWarning } from "./layer-kind.js";
import { layerName } from "./layer-name.js";

/** A layer of a manifest, and what the config says of it. */
export interface LayerToRead {
  readonly descriptor: Descriptor;
  readonly diffId?: DiffId;
}

export interface NamedLayer {
  readonly descriptor: Descriptor;
  readonly diffId: DiffId | undefined;
  /** Names the layer in errors. */
  readonly where: string;
}

/** What a pass finds out at least. */
export interface PassedLayer {
  /** Undefined where nobody has read this blob: its layer was known from another one. */
  readonly compression: CompressionName | undefined;
  /** As of LayerIndex. */
  readonly trailingBytes: number;
  readonly warnings: readonly string[];
}

export interface LayerPassesOptions<Result> {
  /** One pass over the bytes of a layer, or what spares it. `signal` is the pass's own. */
  readonly pass: (layer: NamedLayer, signal: AbortSignal) => Promise<Result>;
  /** Passes with another purpose are not joined. */
  readonly purpose: string;
  /** Told of a blob whose bytes are no good; true where they are worth another pass (ImageSource.rejectBytes). */
  readonly rejectBytes?: ((blob: Descriptor) => boolean) | undefined;
  /** Ends up in the error: "indexing layers". */
  readonly doing: string;
  readonly signal?: AbortSignal;
}

/**
 * A connection to a registry seldom fills the line, and one layer keeps one thread of libuv's pool busy; the pool has four, and
 * the fourth is left for files and name lookups.
 */
const LAYERS_AT_ONCE = 3;

/**
 * Goes over the layers of images side by side. A layer that is wanted twice at the same time, in one image or by two callers, is
 * read once.
 */
export class LayerPasses<Result extends PassedLayer> {
  readonly #places = new Semaphore(LAYERS_AT_ONCE);
  readonly #flights = new SingleFlight<string, Result>();

  /**
   * The results for `layers`, in their order; their warnings say which layer they are about. The first layer that fails ends the others and
   * is the one reported, once all of them have ended.
   * Throws what the passes throw; LAYER_UNSUPPORTED for foreign and encrypted layers before anything is fetched; CANCELLED.
   */
  async run(layers: readonly LayerToRead[], options: LayerPassesOptions<Result>): Promise<Result[]> {
    const { signal, purpose, doing } = options;
    if (signal?.aborted) throw cancelled(doing, signal);
    const wanted = layers.map(({ descriptor, diffId }, i) => {
      const where = layerName(descriptor.digest, i, layers.length);
      const oddities = classifyLayer(descriptor, where);
      const key = `${descriptor.digest} ${descriptor.size} ${diffId} ${purpose}`;
      return { descriptor, diffId, where, oddities, key };
    });

    const abort = new AbortController();
    // One listener a layer is no leak.
    setMaxListeners(0, abort.signal);
    const onAbort = () => abort.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const passes: Array<{ signal: AbortSignal; settled: Promise<unknown> }> = [];
    const results = new Map<string, Result>();
    const once = wanted.filter((layer, i) => wanted.findIndex(({ key }) => key === layer.key) === i);
    await Promise.all(
      once.map(async (layer) => {
        const pass = (passSignal: AbortSignal) => {
          const work = this.#places.run(() => passUntilRight(layer, options, passSignal), passSignal);
          passes.push({ signal: passSignal, settled: work.catch(() => {}) });
          return work;
        };
        try {
          results.set(layer.key, await this.#joinPass(layer.key, pass, abort.signal));
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
        ? cancelled(doing, signal)
        : abort.signal.reason;
    }
    return wanted.map(({ descriptor, key, where, oddities }) => {
      const result = results.get(key)!;
      const warnings = [...oddities, ...blobWarnings(descriptor, result), ...result.warnings];
      return { ...result, warnings: warnings.map((sentence) => `${where}: ${sentence}`) };
    });
  }

  /** Joins a pass over the same layer or starts one. A pass of another caller may fail for a reason of its own; then ours is made. */
  async #joinPass(
    key: string,
    pass: (signal: AbortSignal) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result> {
    for (;;) {
      const joined = this.#flights.has(key);
      try {
        return await this.#flights.run(key, pass, signal);
      } catch (error) {
        if (!joined || signal.aborted) throw error;
      }
    }
  }
}

/** What a pass may fail with because somebody between us and the registry has changed the bytes. */
const damageCodes: readonly ErrorCode[] = [
  "DIGEST_MISMATCH",
  "DIFF_ID_MISMATCH",
  "LAYER_CORRUPT",
  "LAYER_UNSUPPORTED",
  "LIMIT_EXCEEDED",
];
/** Two mirrors and the registry itself (registry-routes.ts). */
const passesMax = 3;

/** A layer that a mirror has wrong is read once more, from somebody else. */
async function passUntilRight<Result>(
  layer: NamedLayer,
  options: Pick<LayerPassesOptions<Result>, "pass" | "rejectBytes">,
  signal: AbortSignal,
): Promise<Result> {
  for (let passes = 1; ; passes++) {
    try {
      return await options.pass(layer, signal);
    } catch (error) {
      const isDamage = isSkimError(error) && damageCodes.includes(error.code);
      if (!isDamage || passes === passesMax || signal.aborted) throw error;
      if (!options.rejectBytes?.(layer.descriptor)) throw error;
    }
  }
}

/** What is odd in a blob but no error, and not in the tar that it holds. */
function blobWarnings({ mediaType }: Descriptor, { compression, trailingBytes }: PassedLayer): string[] {
  if (compression === undefined) return [];
  const lie = mediaTypeWarning(mediaType, compression);
  const trailing = `${trailingBytes} bytes behind the end of its ${compression} data were ignored`;
  return [...(lie ? [lie] : []), ...(trailingBytes > 0 ? [trailing] : [])];
}

function cancelled(doing: string, signal: AbortSignal): SkimError {
  return new SkimError("CANCELLED", `${doing} was cancelled`, { cause: signal.reason });
}
