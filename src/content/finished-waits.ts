/**
 * How long readers have waited for spans that were not at hand, from where these came then, and what the time went to. Reads that native threads answer from the cache wait for
 * nothing and do not come by here.
 *
 * Memory is bounded: histograms, the slowest few, and the first ones one by one: with these it can be told where a start went (`skim stats --why`).
 */
import { Histogram, type HistogramSnapshot, latencyBoundsSeconds } from "../base/histogram.js";
import { monotonicMs } from "../base/monotonic-clock.js";
import type { Phase, PhaseTimes } from "./phase-clock.js";

/** Enough to see a pattern; people read them. */
const slowestMax = 20;
/** A start misses some dozen spans of 1 MiB, or 750 of 64 KiB (ARCHITECTURE.md). About 150 bytes each. */
const firstMax = 2048;
/** Reads of something new whose moment is noted: whoever prepares a container reads a few files before its runtime does. */
const readMomentsMax = 256;
/** Shown; the number of all is told beside. */
const waitingMax = 100;

export const waitSources = ["memory", "cache", "network"] as const;
export type WaitSource = (typeof waitSources)[number];

export interface FinishedWait {
  /** Index of the span in the archive. */
  readonly span: number;
  /** unserved: it failed, or nobody wanted it any more. */
  readonly source: WaitSource | "unserved";
  /** Of monotonicMs. */
  readonly beganMs: number;
  readonly ms: number;
  /** What the run that brought it was busy with meanwhile; with what is not named they make up `ms`. */
  readonly networkMs: number;
  readonly inflateMs: number;
  readonly queueMs: number;
}

export interface WaitReport {
  /** Seconds from wanted to landed. */
  readonly landed: Readonly<Record<WaitSource, HistogramSnapshot>>;
  /** Seconds of each phase of those that came from the network. */
  readonly phases: Readonly<Record<Phase, HistogramSnapshot>>;
  readonly unserved: number;
  /** The slowest one first. */
  readonly slowest: readonly FinishedWait[];
  /** Waits that have not ended: how many, and the oldest of them. */
  readonly waiting: number;
  readonly waitingLongest: readonly { readonly span: number; readonly ageMs: number }[];
}

export interface FirstWaits {
  /** When something was read that had not been read before: the first moments of monotonicMs, ascending. */
  readonly readMoments: readonly number[];
  /** In the order in which they ended. */
  readonly waits: readonly FinishedWait[];
  /** False where there were more than are kept. */
  readonly isComplete: boolean;
  /** Those that have not ended: since when, of monotonicMs. */
  readonly waitingSinceMs: readonly number[];
}

interface UnfinishedWait {
  readonly span: number;
  readonly beganMs: number;
}

export class FinishedWaits {
  readonly #landed = {
    memory: new Histogram(latencyBoundsSeconds),
    cache: new Histogram(latencyBoundsSeconds),
    network: new Histogram(latencyBoundsSeconds),
  };
  readonly #phases = {
    network: new Histogram(latencyBoundsSeconds),
    inflate: new Histogram(latencyBoundsSeconds),
    queue: new Histogram(latencyBoundsSeconds),
  };
  readonly #waiting = new Set<UnfinishedWait>();
  readonly #first: FinishedWait[] = [];
  #slowest: FinishedWait[] = [];
  #ended = 0;
  #unserved = 0;
  readonly #readMoments: number[] = [];

  /** Something is read that was not read before. */
  read(): void {
    if (this.#readMoments.length < readMomentsMax) this.#readMoments.push(monotonicMs());
  }

  /** A wait for `span` begins. The returned function ends it (once): with what it came from, and what the time went to where that is known. */
  begin(span: number): (source: FinishedWait["source"], spent?: PhaseTimes) => void {
    this.read();
    const wait = { span, beganMs: monotonicMs() };
    this.#waiting.add(wait);
    return (source, spent) => {
      this.#waiting.delete(wait);
      this.#end(wait, source, spent);
    };
  }

  /** A start begins: what is told first is what comes from now on. Of several starts at once, the last. */
  newStart(): void {
    this.#first.length = 0;
    this.#readMoments.length = 0;
    this.#ended = 0;
  }

  report(): WaitReport {
    const now = monotonicMs();
    // A Set keeps the order of its insertions: the oldest come first.
    const oldest = [...this.#waiting].slice(0, waitingMax);
    return {
      landed: snapshots(this.#landed),
      phases: snapshots(this.#phases),
      unserved: this.#unserved,
      slowest: this.#slowest,
      waiting: this.#waiting.size,
      waitingLongest: oldest.map(({ span, beganMs }) => ({ span, ageMs: now - beganMs })),
    };
  }

  first(): FirstWaits {
    return {
      readMoments: this.#readMoments,
      waits: this.#first,
      isComplete: this.#ended === this.#first.length,
      waitingSinceMs: [...this.#waiting].slice(0, waitingMax).map(({ beganMs }) => beganMs),
    };
  }

  #end({ span, beganMs }: UnfinishedWait, source: FinishedWait["source"], spent?: PhaseTimes): void {
    const now = monotonicMs();
    const { network: networkMs = 0, inflate: inflateMs = 0, queue: queueMs = 0 } = spent ?? {};
    const ended = { span, source, beganMs, ms: now - beganMs, networkMs, inflateMs, queueMs };
    this.#ended++;
    if (source === "unserved") this.#unserved++;
    else this.#landed[source].observe(ended.ms / 1000);
    if (source === "network") {
      this.#phases.network.observe(networkMs / 1000);
      this.#phases.inflate.observe(inflateMs / 1000);
      this.#phases.queue.observe(queueMs / 1000);
    }
    if (this.#first.length < firstMax) this.#first.push(ended);
    if (this.#slowest.length < slowestMax || ended.ms > this.#slowest.at(-1)!.ms)
      this.#slowest = [...this.#slowest, ended].sort((a, b) => b.ms - a.ms).slice(0, slowestMax);
  }
}

function snapshots<Name extends string>(
  histograms: Readonly<Record<Name, Histogram>>,
): Record<Name, HistogramSnapshot> {
  return Object.fromEntries(
    Object.entries<Histogram>(histograms).map(([name, histogram]) => [name, histogram.snapshot()]),
  ) as Record<Name, HistogramSnapshot>;
}
