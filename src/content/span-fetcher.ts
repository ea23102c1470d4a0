/**
 * The fetches under way, and who joins which. Each span is fetched by one run at a time, whoever asks for it, but for readers that would wait too long for one
 * that nobody waits for; a failure is not remembered, and what was fetched is found in the SpanStore.
 *
 * Runs start at once and side by side: the source bounds its connections, and a run holds little more than a span and a piece. Those that
 * nobody waits for give way to the others (traffic.ts), and a reader joins one only where not much is in front of his span.
 */
import { rangeLength } from "../base/byte-range.js";
import { SkimError } from "../base/errors.js";
import type { Digest } from "../image/digest.js";
import type { ContentLayer } from "./content-archive.js";
import { compressedRange, planRuns } from "./fetch-plan.js";
import { FetchRun, type FetchRunOptions } from "./fetch-run.js";
import type { RunDescription } from "./run-progress.js";
import type { SpanWait, UnwaitedRun } from "./span-wait.js";
import type { Urgency } from "./traffic.js";

/**
 * Compressed bytes in front of his span in a run of a prefetch that a reader waits for rather than asking for that alone: about what a link brings in the round trip of
 * a request, 20 ms at 400 Mbit/s.
 */
const joinedBytesMax = 1024 * 1024;

/** A run as it stands. Spans are counted from 0 within the layer. */
export interface FetchInFlight extends RunDescription {
  readonly layer: Digest;
  readonly spanStart: number;
  readonly spanEnd: number;
  /** The span that is next to come; those before it are done. */
  readonly spanNext: number;
  /** Reads that wait for one of its spans, once for each span. */
  readonly waiting: number;
  readonly urgency: Urgency;
}

export class SpanFetcher {
  readonly #options: FetchRunOptions;
  readonly #runs = new Map<FetchRun, Promise<void>>();
  #sequence = 0;
  #closed = false;

  constructor(options: FetchRunOptions) {
    this.#options = options;
  }

  /** The number of something that begins now: below that of every run that starts later. */
  nextSequence(): number {
    return ++this.#sequence;
  }

  /**
   * Joins the runs that fetch `spans` of `layer` (ascending, none twice), and starts what is missing. One wait a span, in no
   * order; each must be awaited or left. Throws CANCELLED after `close`.
   */
  fetch(layer: ContentLayer, spans: readonly number[]): SpanWait[] {
    if (this.#closed) throw closedError();
    const waits: SpanWait[] = [];
    const missing: number[] = [];
    for (const span of spans) {
      const run = this.#runFor(span);
      if (run) waits.push(run.wait(span));
      else missing.push(span);
    }
    const plans = planRuns(this.#options.archive, layer, missing);
    const runs = plans.map((plan) => new FetchRun(layer, plan, this.nextSequence(), this.#options));
    for (const span of missing) waits.push(runs.find((run) => run.covers(span))!.wait(span));
    for (const run of runs) void this.#start(run);
    return waits;
  }

  /** True where a run under way is going to bring `span`. */
  brings(span: number): boolean {
    return [...this.#runs.keys()].some((run) => run.covers(span));
  }

  /**
   * Fetches `spans` of `layer` (ascending, none twice, none under way) that nobody waits for. Resolves when they are in the SpanStore, or nobody wants
   * them any more; rejects with what made a run fail. `signal` takes the wish back: what readers wait for by then goes on.
   */
  async prefetch(
    layer: ContentLayer,
    spans: readonly number[],
    unwaited: UnwaitedRun,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#closed) throw closedError();
    signal.throwIfAborted();
    const runs = planRuns(this.#options.archive, layer, spans, Number.POSITIVE_INFINITY).map(
      (plan) => new FetchRun(layer, plan, this.nextSequence(), this.#options, unwaited),
    );
    const release = () => {
      for (const run of runs) run.release();
    };
    signal.addEventListener("abort", release, { once: true });
    await Promise.all(runs.map((run) => this.#start(run)));
    signal.removeEventListener("abort", release);
    signal.throwIfAborted();
    const failed = runs.find((run) => run.failure !== undefined);
    if (failed) throw failed.failure!;
  }

  /** Resolves when what is under way now has ended. False where nothing was. */
  async ended(): Promise<boolean> {
    const running = [...this.#runs.values()];
    await Promise.all(running);
    return running.length > 0;
  }

  async #start(run: FetchRun): Promise<void> {
    const running = run.run().then(() => void this.#runs.delete(run));
    this.#runs.set(run, running);
    await running;
  }

  inFlight(): FetchInFlight[] {
    return [...this.#runs.keys()].map((run) => ({
      layer: run.layer.digest,
      spanStart: run.plan.start - run.layer.spanFirst,
      spanEnd: run.plan.end - run.layer.spanFirst,
      spanNext: run.position - run.layer.spanFirst,
      waiting: run.waiting,
      urgency: run.urgency,
      ...run.describe(),
    }));
  }

  /** Aborts all runs and waits for them. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const run of this.#runs.keys()) run.cancel(closedError());
    await Promise.all(this.#runs.values());
  }

  #runFor(span: number): FetchRun | undefined {
    for (const run of this.#runs.keys()) if (run.covers(span) && this.#isNear(run, span)) return run;
    return undefined;
  }

  #isNear(run: FetchRun, span: number): boolean {
    if (run.urgency === "demand" || run.plan.toNextRestart) return true;
    // What comes before his span, and not the span itself: that may be longer, and is on its way.
    if (span === run.position) return true;
    return rangeLength(compressedRange(this.#options.archive, run.position, span)) <= joinedBytesMax;
  }
}

function closedError(): SkimError {
  return new SkimError("CANCELLED", "reading an image: it was closed");
}
