/**
 * All that is fetched before somebody asks for it, and what decides about it: which spans are touched, what a profile or a start set foretells,
 * read-ahead, and filling.
 */
import { setMaxListeners } from "node:events";
import { describeError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import { BackgroundFill, type FillOptions, type Presence } from "./background-fill.js";
import {
  type ContentArchive,
  type ContentLayer,
  compressedBytesOf,
  layerOfSpan,
  spanCountOf,
} from "./content-archive.js";
import type { ContentCounter } from "./counters.js";
import { Prefetcher, type PrefetchReport } from "./prefetch.js";
import { ReadAhead } from "./read-ahead.js";
import type { SpanFetcher } from "./span-fetcher.js";
import type { SpanStore } from "./span-store.js";
import type { Traffic } from "./traffic.js";
import { AheadVerifier } from "./verify-ahead.js";

/** Of one foretelling or one read-ahead; all together are bounded in bytes, see Traffic.request. */
const requestsAtOnce = 8;
/** Compressed bytes of a request. Whoever misses something of a request's end waits for its beginning. */
const requestBytesMax = 1024 * 1024;
/**
 * Taken around a miss that continues nothing, in terms of what the link carries in a round trip. The files of a package lie side by side, and a program that reads
 * one reads others: of `import numpy` on a Debian image, 20 ms away and without a profile, 41 misses come one after the other with nothing, 32 with once,
 * and 16 with twice that much, for 20 % more bytes.
 */
const speculatedRoundTrips = 2;
/** On a shorter way a neighbour that is wanted is asked for sooner than one that is not has been inflated. */
const speculationRoundTripMsMin = 2;
/** Of these, how many lie behind the miss; the rest lies before it. */
const forwardShare = 2 / 3;
/** What a start before this one has read is verified before it is read again. A start reads tens of MiB; this much takes a processor 0.13 s. */
const usedLastBytesMax = 128 * 1024 * 1024;

export interface SpansAheadOptions {
  readonly archive: ContentArchive;
  readonly store: SpanStore;
  readonly fetcher: SpanFetcher;
  readonly traffic: Traffic;
  readonly counters: Counters<ContentCounter>;
  readonly logger: Logger;
  readonly memoryCacheBytes: number;
  readonly readAhead: boolean;
  /** What is to be done as soon as it is known that something will be fetched. */
  connectAhead(): void;
}

export class SpansAhead {
  readonly #options: SpansAheadOptions;
  readonly #prefetcher: Prefetcher;
  readonly #verifier: AheadVerifier;
  readonly #readAhead = new ReadAhead();
  readonly #fill: BackgroundFill;
  /** 1 for each span that was touched. */
  readonly #touched: Uint8Array;
  /** 1 for each span that a profile or a start set has named: to touch it says nothing of where a reader goes next. */
  readonly #foretold: Uint8Array;
  readonly #listeners = new Set<(span: number) => void>();
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(options: SpansAheadOptions) {
    this.#options = options;
    const { archive, store, fetcher, traffic } = options;
    this.#prefetcher = new Prefetcher(options);
    this.#verifier = new AheadVerifier(archive, store);
    this.#fill = new BackgroundFill({ archive, store, fetcher, traffic, prefetcher: this.#prefetcher });
    this.#touched = new Uint8Array(spanCountOf(archive));
    this.#foretold = new Uint8Array(this.#touched.length);
    setMaxListeners(0, this.#closing.signal);
  }

  touched(spans: readonly number[]): void {
    const { archive, counters } = this.#options;
    const surprising: number[] = [];
    for (const span of spans) {
      if (this.#touched[span] !== 0) continue;
      this.#touched[span] = 1;
      counters.add("touched_spans_total");
      counters.add("touched_bytes_total", compressedBytesOf(archive, span));
      for (const listener of this.#listeners) listener(span);
      if (this.#foretold[span] === 0) surprising.push(span);
    }
    if (!this.#options.readAhead) return;
    for (let at = 0; at < surprising.length; ) {
      const first = surprising[at]!;
      let last = first;
      for (at++; surprising[at] === last + 1; at++) last++;
      this.#readOn(first, last);
    }
  }

  onTouch(listener: (span: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async foretell(spans: readonly number[], signal: AbortSignal): Promise<PrefetchReport> {
    const { archive, store, connectAhead } = this.#options;
    // Before the files are opened, and made: the connections open meanwhile.
    if (spans.length > 0 && store.isUnknown(layerOfSpan(archive, spans[0]!))) connectAhead();
    const taken = (await this.#isKept(spans)) ? spans : this.#fittingInMemory(spans);
    for (const span of taken) this.#foretold[span] = 1;
    const report = await this.#prefetch(taken, signal);
    if (report.failure && !signal.aborted)
      this.#options.logger.warn(
        { error: describeError(report.failure) },
        "prefetching has ended early: reads fetch what they need",
      );
    return report;
  }

  async verifyUsedLast(signal: AbortSignal): Promise<void> {
    const anyEnd = AbortSignal.any([signal, this.#closing.signal]);
    const verify = async () => this.#verifier.run(await this.#verifier.usedLast(usedLastBytesMax), anyEnd);
    await this.#track(verify());
  }

  async fill(options: FillOptions): Promise<Presence> {
    const { onProgress } = options;
    const counted = (layer: ContentLayer, bytes: number) => {
      this.#options.counters.add("prefetched_spans_total");
      onProgress?.(layer, bytes);
    };
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    return await this.#track(this.#fill.run({ ...options, signal, onProgress: counted }));
  }

  presence(): Promise<Presence> {
    return this.#fill.presence();
  }

  /** Ends everything that nobody waits for. */
  async close(): Promise<void> {
    this.#closing.abort(new SkimError("CANCELLED", "fetching ahead: the image was closed"));
    await Promise.allSettled(this.#underWay);
  }

  #readOn(first: number, last: number): void {
    const { archive, store } = this.#options;
    if (this.#closing.signal.aborted) return;
    const layer = layerOfSpan(archive, last);
    const around = this.#spansInRoundTrip(layer, last);
    const behind = this.#readAhead.touched({ first, last }, layer, Math.ceil(around * forwardShare));
    const spans = Array.from({ length: behind.end - behind.start }, (_, position) => behind.start + position);
    if (!behind.isContinued) {
      const before = Math.min(Math.floor(around * (1 - forwardShare)), first - layer.spanFirst);
      for (let span = first - 1; span >= first - before; span--) spans.push(span);
    }
    const taken = store.keeps(layer) ? spans : this.#fittingInMemory(spans);
    if (taken.length > 0) void this.#prefetch(taken, this.#closing.signal);
  }

  /** How many spans like this one, which is missing, the link carries while the request for it travels. */
  #spansInRoundTrip(layer: ContentLayer, span: number): number {
    const { archive, store, traffic } = this.#options;
    if (store.held(span) || store.onDisk(layer, span)) return 0;
    const { roundTripMs = 0, roundTripBytes = 0 } = traffic.link;
    if (roundTripMs < speculationRoundTripMsMin) return 0;
    const bytes = roundTripBytes * speculatedRoundTrips;
    return Math.floor(bytes / Math.max(compressedBytesOf(archive, span), 1));
  }

  async #prefetch(spans: readonly number[], signal: AbortSignal): Promise<PrefetchReport> {
    const { counters } = this.#options;
    const closing = this.#closing.signal;
    const anyEnd = signal === closing ? signal : AbortSignal.any([signal, closing]);
    void this.#track(this.#verifier.run(spans, anyEnd));
    return await this.#track(
      this.#prefetcher.run(spans, {
        urgency: "ahead",
        requestsAtOnce,
        requestBytesMax,
        isBounded: true,
        signal: anyEnd,
        onSpan: () => counters.add("prefetched_spans_total"),
      }),
    );
  }

  /** True where the disk takes what is fetched, as far as the first of `spans` tells. */
  async #isKept(spans: readonly number[]): Promise<boolean> {
    const { archive, store } = this.#options;
    if (spans.length === 0) return true;
    const layer = layerOfSpan(archive, spans[0]!);
    await store.openLayer(layer);
    return store.keeps(layer);
  }

  /** The first of `spans`, as many as may drive other things from memory. */
  #fittingInMemory(spans: readonly number[]): readonly number[] {
    const { archive, memoryCacheBytes } = this.#options;
    let bytes = memoryCacheBytes / 2;
    const tooMany = spans.findIndex((span) => {
      bytes -= archive.span(span).uncompressedLength;
      return bytes < 0;
    });
    return tooMany < 0 ? spans : spans.slice(0, tooMany);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
    }
  }
}
