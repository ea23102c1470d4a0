/**
 * Serves the parts of one read: each span from memory, from disk, or from the network, in this order.
 *
 * What is at hand is copied without waiting. The rest is brought (span-bringer.ts); parts are copied as their spans come, until all are
 * there or the read is over: cancelled, or at its deadline. After that nothing touches the caller's buffer any more.
 */
import type { Counters } from "../base/metrics.js";
import type { CallScope } from "../registry/call-scope.js";
import { orAborted } from "../registry/call-scope.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";
import { type ContentCounter, spanCounterOf } from "./counters.js";
import type { SpanPart } from "./read-plan.js";
import type { SpanBringer } from "./span-bringer.js";
import { copyPart, type SpanStore } from "./span-store.js";

/** Uncompressed bytes of spans that one read asks for at a time: a caller with a buffer of gigabytes must not hold them all. */
const batchBytesMax = 32 * 1024 * 1024;

export interface SpanReaderOptions {
  readonly archive: ContentArchive;
  readonly store: SpanStore;
  readonly bringer: SpanBringer;
  readonly counters: Counters<ContentCounter>;
  /** See ReadRequest. */
  readonly aside?: boolean;
}

/** A span of a read, with what the read wants of it. */
interface SpanOfRead {
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
    else if (part.span !== counted) counters.add(spanCounterOf(from));
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
    const over = new AbortController();
    try {
      await orAborted(readBatch(batch, over.signal, options), scope.signal);
    } finally {
      // What is still waited for is left, and nothing is copied any more.
      over.abort(scope.signal.reason);
    }
  }
}

async function readBatch(
  batch: readonly SpanOfRead[],
  signal: AbortSignal,
  { bringer, counters, aside }: SpanReaderOptions,
): Promise<void> {
  const copies: Promise<void>[] = [];
  for (const [layer, spans] of byLayer(batch)) {
    const brought = bringer.bring(
      layer,
      spans.map(({ span }) => ({ span, signal })),
      aside,
    );
    for (const [position, promise] of brought.entries())
      copies.push(
        promise.then(({ bytes, from }) => {
          if (signal.aborted) return;
          for (const part of spans[position]!.parts) copyPart(part, bytes);
          counters.add(spanCounterOf(from));
        }),
      );
  }
  await Promise.all(copies);
}

function byLayer(batch: readonly SpanOfRead[]): Map<ContentLayer, SpanOfRead[]> {
  const layers = new Map<ContentLayer, SpanOfRead[]>();
  for (const one of batch) {
    const found = layers.get(one.layer);
    if (found) found.push(one);
    else layers.set(one.layer, [one]);
  }
  return layers;
}

/** The spans that `parts` want, each once, in groups of bounded size. */
function batches(parts: readonly SpanPart[], archive: ContentArchive): SpanOfRead[][] {
  const bySpan = new Map<number, SpanOfRead>();
  for (const part of parts) {
    const found = bySpan.get(part.span);
    if (found) found.parts.push(part);
    else bySpan.set(part.span, { layer: archive.layers[part.layer]!, span: part.span, parts: [part] });
  }
  const groups: SpanOfRead[][] = [];
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
