/**
 * Brings spans that nobody waits for yet, in the order of need that it is given, as few ranges as their neighbourhood allows, several side by side.
 *
 * Spans that are at hand or under way when their turn comes are passed over; so are those that a request for a span before them has brought along.
 */
import { setMaxListeners } from "node:events";
import { isSkimError, SkimError } from "../base/errors.js";
import { type ContentArchive, type ContentLayer, compressedBytesOf, layerOfSpan } from "./content-archive.js";
import type { SpanFetcher } from "./span-fetcher.js";
import type { SpanStore } from "./span-store.js";
import type { UnwaitedRun } from "./span-wait.js";
import type { Traffic } from "./traffic.js";

/** How far ahead in the order of need a neighbour may stand to come along: it would be asked for soon, and saves a request. */
const neighbourRanksMax = 64;

export interface PrefetchOptions extends UnwaitedRun {
  readonly requestsAtOnce: number;
  /** Compressed bytes of one request; a single span may have more. */
  readonly requestBytesMax: number;
  /** True: all such requests together are bounded by what the link carries. False, for few long ones: they are held back by not being read. */
  readonly isBounded: boolean;
  /** Ends it, with LOCAL_IO, where the disk takes nothing: it is fetched for nobody else. */
  readonly onlyForDisk?: boolean;
  readonly signal: AbortSignal;
}

export interface PrefetchReport {
  readonly requests: number;
  /** Spans that were asked for, and compressed bytes of these. */
  readonly spans: number;
  readonly compressedBytes: number;
  /** What ended it before its end; requests that were under way then have been waited for. */
  readonly failure: SkimError | undefined;
}

/** Of spans that the disk does not take. */
export function notKept(): SkimError {
  return new SkimError(
    "LOCAL_IO",
    "filling the cache: it does not take all of the image; check that its directory can be written, and its limits: skim cache ls",
  );
}

interface Request {
  readonly layer: ContentLayer;
  /** Ascending, without gap. */
  readonly spans: readonly number[];
  readonly compressedBytes: number;
}

export class Prefetcher {
  readonly #archive: ContentArchive;
  readonly #store: SpanStore;
  readonly #fetcher: SpanFetcher;
  readonly #traffic: Traffic;

  constructor(parts: {
    archive: ContentArchive;
    store: SpanStore;
    fetcher: SpanFetcher;
    traffic: Traffic;
  }) {
    this.#archive = parts.archive;
    this.#store = parts.store;
    this.#fetcher = parts.fetcher;
    this.#traffic = parts.traffic;
  }

  /** `spans` in the order of need. Never rejects: a prefetch that fails costs its reader nothing but time. */
  async run(spans: readonly number[], options: PrefetchOptions): Promise<PrefetchReport> {
    const { requestsAtOnce, requestBytesMax, isBounded, onlyForDisk = false, signal, ...unwaited } = options;
    const pending = new Map(spans.map((span, rank) => [span, rank] as const));
    const report = { requests: 0, spans: 0, compressedBytes: 0, failure: undefined as SkimError | undefined };
    // Requests of our own may be many; each listens.
    const ended = new AbortController();
    setMaxListeners(0, ended.signal);
    const end = () => ended.abort(signal.reason);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    const lane = async () => {
      for (let next = await this.#next(pending, requestBytesMax); next; ) {
        if (ended.signal.aborted || report.failure) return;
        if (onlyForDisk && !(await this.#store.willKeep(next.layer))) throw notKept();
        report.requests++;
        report.spans += next.spans.length;
        report.compressedBytes += next.compressedBytes;
        await this.#fetch(next, unwaited, isBounded, ended.signal);
        next = await this.#next(pending, requestBytesMax);
      }
    };
    await Promise.all(
      Array.from({ length: requestsAtOnce }, () =>
        lane().catch((error: unknown) => {
          if (!ended.signal.aborted && isSkimError(error)) report.failure ??= error;
        }),
      ),
    );
    signal.removeEventListener("abort", end);
    return report;
  }

  async #fetch(
    { layer, spans, compressedBytes }: Request,
    unwaited: UnwaitedRun,
    isBounded: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const fetch = async (onArrived?: (bytes: number) => void) => {
      // Readers may have asked for some of them while this waited for its place.
      const missing = spans.filter((span) => this.#isMissing(layer, span));
      if (missing.length > 0)
        await this.#fetcher.prefetch(
          layer,
          missing,
          { ...unwaited, ...(onArrived ? { onArrived } : {}) },
          signal,
        );
    };
    if (unwaited.urgency === "fill") await this.#stillness(unwaited, signal);
    if (!isBounded) await fetch();
    else await this.#traffic.request(compressedBytes, fetch, signal);
  }

  /** Waits until nobody is in the way of a fill, and its pace allows it: what has been asked for comes, as far as the sockets' buffers take it. */
  async #stillness({ pace }: UnwaitedRun, signal: AbortSignal): Promise<void> {
    for (let pauseMs = pace?.(0) ?? 0; ; ) {
      await this.#traffic.turn(() => "fill", signal, pauseMs);
      pauseMs = pace?.(0) ?? 0;
      if (pauseMs === 0) return;
    }
  }

  /** The next request's spans, ascending and without gap, which are taken out of `pending`. */
  async #next(pending: Map<number, number>, bytesMax: number): Promise<Request | undefined> {
    for (;;) {
      const first = pending.keys().next().value;
      if (first === undefined) return undefined;
      const layer = layerOfSpan(this.#archive, first);
      await this.#store.openLayer(layer);
      // Others have taken it meanwhile.
      const rank = pending.get(first);
      if (rank === undefined) continue;
      if (!this.#isMissing(layer, first)) {
        pending.delete(first);
        continue;
      }
      return this.#withNeighbours(layer, first, rank, pending, bytesMax);
    }
  }

  #withNeighbours(
    layer: ContentLayer,
    first: number,
    rank: number,
    pending: Map<number, number>,
    bytesMax: number,
  ): Request {
    const spans = [first];
    let compressedBytes = compressedBytesOf(this.#archive, first);
    pending.delete(first);
    const take = (span: number): boolean => {
      const neighbourRank = pending.get(span);
      const bytes = neighbourRank === undefined ? 0 : compressedBytesOf(this.#archive, span);
      if (neighbourRank === undefined || neighbourRank - rank > neighbourRanksMax) return false;
      if (span < layer.spanFirst || span >= layer.spanFirst + layer.spanCount) return false;
      if (compressedBytes + bytes > bytesMax || !this.#isMissing(layer, span)) return false;
      pending.delete(span);
      compressedBytes += bytes;
      return true;
    };
    for (let span = first + 1; take(span); span++) spans.push(span);
    for (let span = first - 1; take(span); span--) spans.unshift(span);
    return { layer, spans, compressedBytes };
  }

  #isMissing(layer: ContentLayer, span: number): boolean {
    return !this.#store.held(span) && !this.#store.onDisk(layer, span) && !this.#fetcher.brings(span);
  }
}
