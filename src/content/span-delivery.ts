/**
 * Spans for an engine that cuts reads into spans itself and keeps its own list of who waits for which.
 *
 * The engine says which spans are wanted and which are not any more; each wanted one is landed or failed once, within the deadline of
 * a read. Wanted again while it is on its way, it is still answered once.
 */
import type { Counters } from "../base/metrics.js";
import { CallScope } from "../registry/call-scope.js";
import { type ContentArchive, type ContentLayer, layerOfSpan } from "./content-archive.js";
import { type ContentCounter, spanCounterOf } from "./counters.js";
import type { BroughtSpan, SpanBringer } from "./span-bringer.js";

export interface SpanSink {
  /** The span's bytes, verified; not to be changed, nor kept. */
  landed(span: number, bytes: Uint8Array): void;
  failed(span: number, error: unknown): void;
}

export interface SpanDelivery {
  /** Indexes of spans in the archive. Those that are wanted together and missing are fetched together. */
  want(spans: readonly number[]): void;
  /** Nothing is said of the span any more, until it is wanted again. */
  unwant(span: number): void;
  /** Gives up everything that is wanted. */
  close(): void;
}

export interface SpanDeliveryOptions {
  readonly archive: ContentArchive;
  readonly bringer: SpanBringer;
  readonly counters: Counters<ContentCounter>;
  readonly readDeadlineMs: number;
}

/** A span on its way. */
interface Errand {
  readonly span: number;
  readonly abort: AbortController;
  readonly scope: CallScope;
}

export class SpanErrands implements SpanDelivery {
  readonly #options: SpanDeliveryOptions;
  readonly #sink: SpanSink;
  readonly #errands = new Map<number, Errand>();

  constructor(options: SpanDeliveryOptions, sink: SpanSink) {
    this.#options = options;
    this.#sink = sink;
  }

  want(spans: readonly number[]): void {
    const byLayer = new Map<ContentLayer, Errand[]>();
    for (const span of spans) {
      if (this.#errands.has(span)) continue;
      const layer = layerOfSpan(this.#options.archive, span);
      const errand = this.#begin(span);
      const found = byLayer.get(layer);
      if (found) found.push(errand);
      else byLayer.set(layer, [errand]);
    }
    for (const [layer, errands] of byLayer) {
      const brought = this.#options.bringer.bring(
        layer,
        errands.map(({ span, scope }) => ({ span, signal: scope.signal })),
      );
      for (const [position, promise] of brought.entries()) void this.#run(errands[position]!, promise);
    }
  }

  unwant(span: number): void {
    this.#errands.get(span)?.abort.abort();
    this.#errands.delete(span);
  }

  close(): void {
    for (const span of [...this.#errands.keys()]) this.unwant(span);
  }

  #begin(span: number): Errand {
    const abort = new AbortController();
    const endsAt = performance.now() + this.#options.readDeadlineMs;
    const errand = { span, abort, scope: new CallScope("reading a file", abort.signal, endsAt) };
    this.#errands.set(span, errand);
    return errand;
  }

  async #run(errand: Errand, promise: Promise<BroughtSpan>): Promise<void> {
    const { span } = errand;
    // What was unwanted meanwhile is nobody's any more, even if the same span is wanted anew.
    const isOver = () => this.#errands.get(span) !== errand;
    try {
      const { bytes, from } = await promise;
      if (isOver()) return;
      this.#errands.delete(span);
      this.#options.counters.add(spanCounterOf(from));
      this.#sink.landed(span, bytes);
    } catch (error) {
      if (isOver()) return;
      this.#errands.delete(span);
      this.#sink.failed(span, error);
    } finally {
      errand.scope.end();
    }
  }
}
