/**
 * Verifies spans that are on disk before they are read. A span's first use in a process compares its sha256, 1 ms a MiB, and its reader waits for that; a start
 * reads some seventy, one after the other, while other processors idle.
 */
import { type ContentArchive, type ContentLayer, layerOfSpan } from "./content-archive.js";
import type { SpanStore } from "./span-store.js";

/** Of one call into the thread pool: others come in between. */
const spansAtOnce = 4;

export class AheadVerifier {
  readonly #archive: ContentArchive;
  readonly #store: SpanStore;
  /** One thread of the pool is enough: readers verify what they come to first themselves. */
  #queue: Promise<void> = Promise.resolve();

  constructor(archive: ContentArchive, store: SpanStore) {
    this.#archive = archive;
    this.#store = store;
  }

  /** Spans in the order of need, behind those of calls before. Those that are not on disk are passed over. Never rejects. */
  run(spans: readonly number[], signal: AbortSignal): Promise<void> {
    this.#queue = this.#queue.then(async () => {
      for (let at = 0; at < spans.length; at += spansAtOnce) {
        if (signal.aborted) return;
        await this.#verify(spans.slice(at, at + spansAtOnce));
      }
    });
    return this.#queue;
  }

  /** Spans on disk that were used last, as many as have `bytesMax` together (uncompressed): what the start before read. */
  async usedLast(bytesMax: number): Promise<number[]> {
    const layers = new Map(
      this.#archive.layers.filter(({ spanCount }) => spanCount > 0).map((layer) => [layer.spanFirst, layer]),
    );
    for (const layer of layers.values()) await this.#store.openLayer(layer);
    const uses = [...layers.values()].flatMap((layer) => this.#store.usedSpans(layer));
    uses.sort((a, b) => b.usedSec - a.usedSec || a.span - b.span);
    let bytes = 0;
    const tooMany = uses.findIndex(({ span }) => {
      bytes += this.#archive.span(span).uncompressedLength;
      return bytes > bytesMax;
    });
    return (tooMany < 0 ? uses : uses.slice(0, tooMany)).map(({ span }) => span);
  }

  async #verify(spans: readonly number[]): Promise<void> {
    const ofLayers = new Map<ContentLayer, number[]>();
    for (const span of spans) {
      const layer = layerOfSpan(this.#archive, span);
      const before = ofLayers.get(layer);
      if (before) before.push(span);
      else ofLayers.set(layer, [span]);
    }
    for (const [layer, ofLayer] of ofLayers) {
      await this.#store.openLayer(layer);
      await this.#store.verifyAhead(layer, ofLayer);
    }
  }
}
