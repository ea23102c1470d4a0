/**
 * Extents to verified bytes: what a filesystem reads from.
 *
 * A read is cut into spans (read-plan.ts). Each is served from memory, from the disk cache, or from the registry (span-reader.ts,
 * span-store.ts); what is missing is fetched with as few requests as possible (fetch-plan.ts), by runs that readers
 * share (span-fetcher.ts, fetch-run.ts). No byte is served that has not been compared with the span's sha256 in the
 * archive: network and disk may lie, and then are asked again, or the read fails.
 */
import type { ArchiveExtent } from "../archive/archive.js";
import { invariant, isSkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import type { Settings } from "../base/settings.js";
import type { FilesListener } from "../cache/layer-cache.js";
import { MemoryCache } from "../cache/memory-cache.js";
import type { SpanCache } from "../cache/span-cache.js";
import type { DecoderCalls } from "../native/binding.js";
import { CallScope } from "../registry/call-scope.js";
import type { ImageSource } from "../registry/image-source.js";
import type { FillOptions, Presence } from "./background-fill.js";
import type { ContentArchive } from "./content-archive.js";
import { type ContentCounter, createContentCounters } from "./counters.js";
import { FinishedWaits, type FirstWaits, type WaitReport } from "./finished-waits.js";
import type { PrefetchReport } from "./prefetch.js";
import { planRead } from "./read-plan.js";
import { SpanBringer } from "./span-bringer.js";
import { type SpanDelivery, SpanErrands, type SpanSink } from "./span-delivery.js";
import { type FetchInFlight, SpanFetcher } from "./span-fetcher.js";
import { type SpanReaderOptions, serveAtHand, serveMissing } from "./span-reader.js";
import { SpanStore } from "./span-store.js";
import { SpansAhead } from "./spans-ahead.js";
import { Traffic } from "./traffic.js";
import { type VerifyOptions, type VerifyReport, verifySpans } from "./verify-spans.js";

export interface ContentOptions {
  readonly archive: ContentArchive;
  /** Not closed by content: it may serve others. */
  readonly source: Pick<ImageSource, "readBlob" | "connectAhead">;
  /** Undefined: nothing is kept on disk. Not closed by content, but what content has opened of it. */
  readonly cache: SpanCache | undefined;
  readonly native: DecoderCalls;
  readonly settings: Pick<Settings, "readDeadlineMs" | "memoryCacheBytes">;
  readonly logger?: Logger;
  /** False: nothing but what a read needs, or is asked for by name, is fetched. */
  readonly readAhead?: boolean;
  /** Default: its own. */
  readonly shared?: SharedContentParts;
}

/** What images that one process serves have in common: one link, and one limit of memory. */
export interface SharedContentParts {
  readonly traffic: Traffic;
  readonly memory: MemoryCache;
}

/** `memoryCacheBytes`: of all images together. */
export function createSharedContentParts(memoryCacheBytes: number): SharedContentParts {
  return { traffic: new Traffic(), memory: new MemoryCache(memoryCacheBytes) };
}

export interface ReadRequest {
  /** Of the file, as `Archive.extents` gives them. */
  readonly extents: readonly ArchiveExtent[];
  /** Size of the file, holes included. */
  readonly fileBytes: number;
  /** Where in the file to start. */
  readonly offset: number;
  /** What to fill. It is content's until the call settles. */
  readonly into: Uint8Array;
  readonly signal?: AbortSignal;
  /** Nobody's who uses the image: it is not told to `onTouch`, and not read ahead for. */
  readonly aside?: boolean;
}

export interface Content {
  /**
   * Fills `into` with a file's bytes from `offset` on, holes as zeros. Returns how many there are: fewer than asked for only at the end
   * of the file, 0 at and behind it. Every byte has been verified. Throws DEADLINE_EXCEEDED (settings.readDeadlineMs), CANCELLED,
   * DIGEST_MISMATCH where the registry keeps sending other bytes than the archive names, and what the source throws. A failure is
   * not remembered: the next read tries anew.
   */
  read(request: ReadRequest): Promise<number>;
  /** For an engine that knows which spans it needs; see span-delivery.ts. To be closed by whoever opened it. */
  deliverTo(sink: SpanSink): SpanDelivery;
  /**
   * Opens the cache files of all layers, and tells `listener` whenever those of a layer (its position in the archive) are opened or
   * given up, until the returned function is called. Without a disk cache nothing is told.
   */
  watchFiles(listener: (layer: number, ...files: Parameters<FilesListener>) => void): () => void;
  /**
   * Spans that reads want bytes of, cached or not, as an engine that serves from the cache itself reports them; `read` does so by itself. What
   * was told before is passed over. Readers that go on get read-ahead by it.
   */
  touched(spans: readonly number[]): void;
  /** Calls `listener` with each span that is touched for the first time, until the returned function is called. */
  onTouch(listener: (span: number) => void): () => void;
  /**
   * Fetches spans that will be needed, in the order of need and behind everything that readers wait for. `signal` ends it. Never rejects: what could not be
   * had is in the report, and is fetched when it is read. Without a disk cache only what half of the memory cache holds.
   */
  prefetch(spans: readonly number[], signal: AbortSignal): Promise<PrefetchReport>;
  /** Verifies what was used last of the image and is on disk, so that a start like the one before need not wait for that. Behind what is foretold. `signal` ends it. Never rejects. */
  verifyUsedLast(signal: AbortSignal): Promise<void>;
  /**
   * Fetches all of the image that is not on disk, behind everything else. Resolves when it is there, or `signal` has ended it. Throws LOCAL_IO where the disk cache
   * does not take all of it, and, unless told to persist, what the registry failed with.
   */
  fill(options: FillOptions): Promise<Presence>;
  /** How much of the image is on disk, as far as presence maps say. */
  presence(): Promise<Presence>;
  readonly counters: Counters<ContentCounter>;
  /** What is being fetched at the moment. */
  inFlight(): FetchInFlight[];
  /** How long readers have waited for spans that were not at hand. */
  waits(): WaitReport;
  /** The waits of the start, one by one. */
  firstWaits(): FirstWaits;
  /** One more start in the same mount: see FinishedWaits.newStart. */
  newStart(): void;
  /** Checks all spans of the image in the disk cache, and on request those that are not there against the registry. */
  verifyAll(options?: VerifyOptions): Promise<VerifyReport>;
  /** Fails reads under way with CANCELLED, waits for fetches and writes to end, and lets go of the cache. May be called twice. */
  close(): Promise<void>;
}

/** Opens the content of an image. Touches neither network nor disk before the first read. */
export function openContent(options: ContentOptions): Content {
  return new ImageContent(options);
}

class ImageContent implements Content {
  readonly counters = createContentCounters();
  readonly #options: ContentOptions;
  readonly #store: SpanStore;
  readonly #fetcher: SpanFetcher;
  readonly #bringer: SpanBringer;
  readonly #reader: SpanReaderOptions;
  readonly #ahead: SpansAhead;
  readonly #waits = new FinishedWaits();

  constructor(options: ContentOptions) {
    this.#options = options;
    const { archive, cache, source, native, settings, logger = silentLogger } = options;
    const { readDeadlineMs, memoryCacheBytes } = settings;
    const { counters } = this;
    const { traffic, memory } = options.shared ?? createSharedContentParts(memoryCacheBytes);
    const store = new SpanStore({ archive, cache, memory: memory.part(), counters });
    const fetcher = new SpanFetcher({
      ...{ archive, source, native, store, counters, logger, traffic, readDeadlineMs },
    });
    this.#store = store;
    this.#fetcher = fetcher;
    this.#bringer = new SpanBringer({ store, fetcher, waits: this.#waits });
    this.#reader = { archive, store, bringer: this.#bringer, counters };
    this.#ahead = new SpansAhead({
      ...{ archive, store, fetcher, traffic, counters, logger, memoryCacheBytes },
      readAhead: options.readAhead ?? true,
      connectAhead: () => source.connectAhead?.(),
    });
  }

  async read(request: ReadRequest): Promise<number> {
    const { extents, fileBytes, offset, into, signal, aside = false } = request;
    const { counters } = this;
    invariant(offset >= 0, "a file is read from its start or behind it");
    counters.add("reads_total");
    const length = Math.min(into.length, fileBytes - offset);
    if (length <= 0) return 0;
    const { archive, settings } = this.#options;
    const parts = planRead(archive, extents, offset, length < into.length ? into.subarray(0, length) : into);
    const missing = serveAtHand(parts, this.#reader);
    if (missing.length > 0) {
      const scope = new CallScope("reading a file", signal, performance.now() + settings.readDeadlineMs);
      try {
        const served = serveMissing(missing, scope, { ...this.#reader, aside });
        if (!aside) this.touched(parts.map(({ span }) => span));
        await served;
      } catch (error) {
        if (!isSkimError(error, "CANCELLED")) counters.add("read_failures_total");
        throw error;
      } finally {
        scope.end();
      }
    } else if (!aside) {
      this.touched(parts.map(({ span }) => span));
    }
    counters.add("read_bytes_total", length);
    return length;
  }

  deliverTo(sink: SpanSink): SpanDelivery {
    const { archive, settings } = this.#options;
    const { counters } = this;
    const { readDeadlineMs } = settings;
    return new SpanErrands({ archive, bringer: this.#bringer, counters, readDeadlineMs }, sink);
  }

  watchFiles(listener: (layer: number, ...files: Parameters<FilesListener>) => void): () => void {
    const stops = this.#options.archive.layers.map((layer, position) =>
      layer.spanCount > 0 ? this.#store.watchFiles(layer, (handle) => listener(position, handle)) : () => {},
    );
    return () => {
      for (const stop of stops) stop();
    };
  }

  touched(spans: readonly number[]): void {
    if (spans.length > 0) this.#waits.read();
    this.#ahead.touched(spans);
  }

  onTouch(listener: (span: number) => void): () => void {
    return this.#ahead.onTouch(listener);
  }

  prefetch(spans: readonly number[], signal: AbortSignal): Promise<PrefetchReport> {
    return this.#ahead.foretell(spans, signal);
  }

  verifyUsedLast(signal: AbortSignal): Promise<void> {
    return this.#ahead.verifyUsedLast(signal);
  }

  fill(options: FillOptions): Promise<Presence> {
    return this.#ahead.fill(options);
  }

  presence(): Promise<Presence> {
    return this.#ahead.presence();
  }

  inFlight(): FetchInFlight[] {
    return this.#fetcher.inFlight();
  }

  waits(): WaitReport {
    return this.#waits.report();
  }

  firstWaits(): FirstWaits {
    return this.#waits.first();
  }

  newStart(): void {
    this.#waits.newStart();
  }

  verifyAll(options: VerifyOptions = {}): Promise<VerifyReport> {
    return verifySpans({ ...this.#reader, aside: true }, options);
  }

  async close(): Promise<void> {
    const closed = this.#ahead.close();
    await this.#fetcher.close();
    await closed;
    await this.#store.close();
  }
}
