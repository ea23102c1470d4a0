/**
 * All of an image, while nothing else is to be done: whole layers as few long ranges over what is missing.
 *
 * What has been fetched is on disk, so a fill that was ended goes on where it stopped, in this process or another. It gives way to every
 * reader (traffic.ts), and when the registry fails it tries again after a while.
 */
import type { SkimError } from "../base/errors.js";
import { pause } from "../registry/call-scope.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";
import { compressedBytesOf, layersOnce } from "./content-archive.js";
import { notKept, type Prefetcher } from "./prefetch.js";
import type { SpanFetcher } from "./span-fetcher.js";
import type { SpanStore } from "./span-store.js";
import type { Traffic, Urgency } from "./traffic.js";

/** Compressed bytes of a request. Long ones cost a registry least; they are held back by not being read, so their length is in nobody's way. */
const requestBytesMax = 64 * 1024 * 1024;
/** What is under way when somebody comes is in his way. */
const requestsAtOnce = 1;
/** At full speed, where nobody else is there: as many as inflate side by side. */
const requestsAtOnceAhead = 4;
const requestBytesMaxAhead = 8 * 1024 * 1024;
/** Who waits for readers to be still waits for this long: a start has pauses in which it computes. */
const quietMsMin = 500;
/** After a failure of the registry. */
const retryMs = 15_000;
/** A rate is kept over this time, not for each piece: a request of bytes that may come at once is not cut up. */
const burstMs = 200;

export interface FillOptions {
  /** "ahead": at full speed; "fill": behind everything else. */
  readonly urgency: Exclude<Urgency, "demand">;
  /** Waits until readers have been still for a while. */
  readonly idle?: boolean;
  /** Compressed bytes a second. */
  readonly bytesPerSecond?: number;
  /** Tries again when the registry fails, until `signal` ends it. */
  readonly persist?: boolean;
  readonly signal: AbortSignal;
  /** Called with compressed bytes of spans as they come. */
  readonly onProgress?: (layer: ContentLayer, bytes: number) => void;
}

/** How much of an image is on disk. A layer that is listed twice counts once. */
export interface Presence {
  readonly spans: number;
  readonly presentSpans: number;
  readonly compressedBytes: number;
  readonly presentCompressedBytes: number;
}

/** One way through all that is missing. */
interface FillPass {
  /** What ended it before its end. */
  readonly failure: SkimError | undefined;
  /** Of spans that were passed over because the registry has other bytes. */
  readonly damage: SkimError | undefined;
  /** That have come. */
  readonly spans: number;
  /** Others were bringing spans, which were passed over. */
  readonly hasWaited: boolean;
}

export class BackgroundFill {
  readonly #archive: ContentArchive;
  readonly #store: SpanStore;
  readonly #fetcher: SpanFetcher;
  readonly #prefetcher: Prefetcher;
  readonly #traffic: Traffic;

  constructor(parts: {
    archive: ContentArchive;
    store: SpanStore;
    fetcher: SpanFetcher;
    prefetcher: Prefetcher;
    traffic: Traffic;
  }) {
    this.#archive = parts.archive;
    this.#store = parts.store;
    this.#fetcher = parts.fetcher;
    this.#prefetcher = parts.prefetcher;
    this.#traffic = parts.traffic;
  }

  /**
   * Resolves when all of the image is on disk, or `signal` ended it. Throws what the registry failed with, LOCAL_IO where the disk does not take all of it, and
   * DIGEST_MISMATCH when all is there but what the registry has wrong.
   */
  async run(options: FillOptions): Promise<Presence> {
    const { signal, persist = false } = options;
    let hasLostBefore = false;
    for (let { presentSpans: presentBefore } = await this.presence(); ; ) {
      const { failure, damage, spans, hasWaited } = await this.#pass(options);
      const presence = await this.presence();
      if (signal.aborted || presence.presentSpans === presence.spans) return presence;
      if (failure && (!persist || failure.code === "LOCAL_IO")) throw failure;
      const gained = presence.presentSpans - presentBefore;
      if (failure) await pause(retryMs, signal).catch(() => {});
      else if (damage || (gained <= 0 && (spans > 0 || !hasWaited))) throw damage ?? notKept();
      // A cache that makes room refuses spans meanwhile, most of a pass perhaps. One that is too small loses them the next time as well, and this would go on for as long as it
      // loses one less.
      const hasLost = 2 * gained < spans;
      if (hasLost && hasLostBefore && !failure) throw notKept();
      hasLostBefore = hasLost;
      presentBefore = presence.presentSpans;
    }
  }

  async presence(): Promise<Presence> {
    const presence = { spans: 0, presentSpans: 0, compressedBytes: 0, presentCompressedBytes: 0 };
    for (const layer of layersOnce(this.#archive)) {
      const missing = new Set(await this.#missing(layer));
      for (let span = layer.spanFirst; span < layer.spanFirst + layer.spanCount; span++) {
        const bytes = compressedBytesOf(this.#archive, span);
        presence.spans++;
        presence.compressedBytes += bytes;
        if (missing.has(span)) continue;
        presence.presentSpans++;
        presence.presentCompressedBytes += bytes;
      }
    }
    return presence;
  }

  async #pass(options: FillOptions): Promise<FillPass> {
    let damage: SkimError | undefined;
    let spans = 0;
    const { urgency, idle = false, bytesPerSecond, signal, onProgress } = options;
    const rate = bytesPerSecond === undefined ? undefined : new Rate(bytesPerSecond);
    const pace = (bytes: number) => {
      const quiet = idle ? Math.max(0, quietMsMin - this.#traffic.quietMs) : 0;
      return Math.max(quiet, rate?.take(bytes) ?? 0);
    };
    for (const layer of layersOnce(this.#archive)) {
      const missing = await this.#missing(layer);
      if (missing.length === 0) continue;
      if (await this.#store.willKeep(layer)) for (const span of missing) this.#store.keepHeld(layer, span);
      const report = await this.#prefetcher.run(missing, {
        ...{ urgency, pace, signal, isBounded: false },
        requestsAtOnce: urgency === "fill" ? requestsAtOnce : requestsAtOnceAhead,
        requestBytesMax: urgency === "fill" ? requestBytesMax : requestBytesMaxAhead,
        onlyForDisk: true,
        onDamage: (error) => {
          damage ??= error;
        },
        onSpan: (span) => {
          spans++;
          onProgress?.(layer, compressedBytesOf(this.#archive, span));
        },
      });
      await this.#store.drain();
      const { failure } = report;
      if (signal.aborted || failure) return { failure, damage, spans, hasWaited: false };
    }
    const hasWaited = await this.#fetcher.ended();
    await this.#store.drain();
    return { failure: undefined, damage, spans, hasWaited };
  }

  async #missing(layer: ContentLayer): Promise<number[]> {
    // Nobody must be told that all is there of files that are gone.
    this.#store.releaseStale(layer);
    await this.#store.openLayer(layer);
    const spans = Array.from({ length: layer.spanCount }, (_, i) => layer.spanFirst + i);
    return spans.filter((span) => !this.#store.onDisk(layer, span));
  }
}

/** A bucket that fills with time: bytes beyond what is in it have to wait for it. */
class Rate {
  readonly #bytesPerMs: number;
  /** When all that was taken so far has been paid for, of performance.now(). */
  #paidAt = performance.now();

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Milliseconds to wait before these bytes. */
  take(bytes: number): number {
    const now = performance.now();
    const wait = this.#paidAt - now;
    this.#paidAt = Math.max(this.#paidAt, now - burstMs) + bytes / this.#bytesPerMs;
    return Math.max(0, wait);
  }
}
