/**
 * Serves the parts of one read: each span from memory, from disk, or from the network, in this order.
 *
 * What is at hand is copied without waiting. For the rest, fetches start first and disk loads run meanwhile; parts are copied as
 * their spans come, until all are there or the read is over: cancelled, or at its deadline. After that nothing touches the
 * caller's buffer any more.
 */
import type { Counters } from "../base/metrics.js";
import type { CallScope } from "../registry/call-scope.js";
import { orAborted } from "../registry/call-scope.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";
import type { ContentCounter } from "./counters.js";
import type { SpanWait } from "./fetch-run.js";
import type { SpanPart } from "./read-plan.js";
import type { SpanFetcher } from "./span-fetcher.js";
import { copyPart, type SpanStore } from "./span-store.js";

/** Uncompressed bytes of spans that one read asks for at a time: a caller with a buffer of gigabytes must not hold them all. */
const batchBytesMax = 32 * 1024 * 1024;

export interface SpanReaderOptions {
  readonly archive: ContentArchive;
  readonly store: SpanStore;
  readonly fetcher: SpanFetcher;
  readonly counters: Counters<ContentCounter>;
}

/** A span of a read, with what the read wants of it. */
interface WantedSpan {
  readonly layer: ContentLayer;
  readonly span: number;
  readonly parts: SpanPart[];
}

/** Copies the parts that need no waiting; the others are returned. */
export function serveAtHand(parts: readonly SpanPart[], options: SpanReaderOptions): SpanPart[] {
  const { store, counters } = options;
  const missing: SpanPart[] = [];
  let counted = -1;
  for (const part of parts) {
    const from = store.serve(part);
    if (!from) missing.push(part);
    else if (part.span !== counted)
      counters.add(from === "memory" ? "memory_spans_total" : "disk_spans_total");
    counted = part.span;
  }
  return missing;
}

/** Serves parts that were not at hand. Rejects with the reason of `scope` when that ends first, else as fetching does. */
export async function serveMissing(
  parts: readonly SpanPart[],
  scope: CallScope,
  options: SpanReaderOptions,
): Promise<void> {
  for (const batch of batches(parts, options.archive)) {
    const read = new BatchRead(batch, scope, options);
    try {
      await orAborted(read.run(), scope.signal);
    } finally {
      read.end();
    }
  }
}

class BatchRead {
  readonly #wanted: readonly WantedSpan[];
  readonly #scope: CallScope;
  readonly #options: SpanReaderOptions;
  readonly #sequence: number;
  readonly #waits = new Set<SpanWait>();
  #ended = false;

  constructor(wanted: readonly WantedSpan[], scope: CallScope, options: SpanReaderOptions) {
    this.#wanted = wanted;
    this.#scope = scope;
    this.#options = options;
    this.#sequence = options.fetcher.nextSequence();
  }

  async run(): Promise<void> {
    const { store } = this.#options;
    const layers = new Set(this.#wanted.map((wanted) => wanted.layer));
    await Promise.all([...layers].map((layer) => store.openLayer(layer)));
    if (this.#ended) return;
    const missing = new Map<ContentLayer, WantedSpan[]>();
    const loads: WantedSpan[] = [];
    for (const wanted of this.#wanted) {
      if (this.#copyHeld(wanted)) continue;
      if (store.onDisk(wanted.layer, wanted.span)) loads.push(wanted);
      else if (missing.has(wanted.layer)) missing.get(wanted.layer)!.push(wanted);
      else missing.set(wanted.layer, [wanted]);
    }
    const work = [...missing].map(([layer, spans]) => this.#fetch(layer, spans));
    for (const wanted of loads) work.push(this.#load(wanted));
    await Promise.all(work);
  }

  /** Leaves what is still waited for. Nothing is copied afterwards. */
  end(): void {
    this.#ended = true;
    for (const wait of this.#waits) wait.leave();
  }

  async #load(wanted: WantedSpan): Promise<void> {
    const bytes = await this.#options.store.load(wanted.layer, wanted.span);
    if (this.#ended) return;
    if (bytes) this.#copy(wanted, bytes, "disk_spans_total");
    else if (!this.#copyHeld(wanted)) await this.#fetch(wanted.layer, [wanted]);
  }

  async #fetch(layer: ContentLayer, spans: readonly WantedSpan[]): Promise<void> {
    const bySpan = new Map(spans.map((wanted) => [wanted.span, wanted]));
    const ascending = [...bySpan.keys()].sort((a, b) => a - b);
    const waits = this.#options.fetcher.fetch(layer, ascending);
    for (const wait of waits) this.#waits.add(wait);
    await Promise.all(waits.map((wait) => this.#await(bySpan.get(wait.span)!, wait)));
  }

  async #await(wanted: WantedSpan, wait: SpanWait): Promise<void> {
    let bytes: Uint8Array;
    try {
      bytes = await wait.bytes;
    } catch (error) {
      // A run that began before this read had its own time and its own luck: its failure is not this read's.
      const joined = wait.sequence < this.#sequence;
      if (this.#ended || !joined || this.#scope.signal.aborted) throw error;
      if (!this.#copyHeld(wanted)) await this.#fetch(wanted.layer, [wanted]);
      return;
    } finally {
      this.#waits.delete(wait);
    }
    if (!this.#ended) this.#copy(wanted, bytes, "network_spans_total");
  }

  #copyHeld(wanted: WantedSpan): boolean {
    const held = this.#options.store.held(wanted.span);
    if (held) this.#copy(wanted, held, "memory_spans_total");
    return held !== undefined;
  }

  #copy(wanted: WantedSpan, bytes: Uint8Array, counter: ContentCounter): void {
    for (const part of wanted.parts) copyPart(part, bytes);
    this.#options.counters.add(counter);
  }
}

/** The spans that `parts` want, each once, in groups of bounded size. */
function batches(parts: readonly SpanPart[], archive: ContentArchive): WantedSpan[][] {
  const bySpan = new Map<number, WantedSpan>();
  for (const part of parts) {
    const found = bySpan.get(part.span);
    if (found) found.parts.push(part);
    else bySpan.set(part.span, { layer: archive.layers[part.layer]!, span: part.span, parts: [part] });
  }
  const groups: WantedSpan[][] = [];
  let bytes = 0;
  for (const wanted of bySpan.values()) {
    bytes += archive.span(wanted.span).uncompressedLength;
    if (groups.length === 0 || bytes > batchBytesMax) {
      groups.push([]);
      bytes = archive.span(wanted.span).uncompressedLength;
    }
    groups.at(-1)!.push(wanted);
  }
  return groups;
}
