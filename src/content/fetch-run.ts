/**
 * One fetch under way: consecutive spans of a layer, decoded while their bytes arrive.
 *
 * ```
 * readBlob(range) ─▶ piece ─▶ decoder (thread pool) ─▶ span, verified ─▶ its waiters, at once
 *                                                                     └▶ SpanStore: memory, disk in the background
 * ```
 * Readers wait for single spans and are answered when theirs is decoded, not when the run ends. Readers that come later join for
 * the spans that are still ahead. A waiter that leaves takes nobody with it; when the last one has left, the run is
 * aborted, unless it goes on to fill the disk cache (`toNextRestart`, see fetch-plan.ts). Without a disk cache such a run
 * pauses where nobody waits and keeps its decoder for a while: a reader that goes on where it stopped need not start over.
 *
 * A run of a prefetch needs no waiters, and gives way to those that have some (traffic.ts).
 *
 * Bytes that do not decode, or to something else than the archive names, are fetched again a few times, from the last restart
 * point on. If that does not help, the spans up to the next restart point fail, and only they. Every wait for a next
 * span has a limit, so that a connection that drips or hangs does not hold up readers that come after the first.
 */
import { rangeLength } from "../base/byte-range.js";
import { describeError, isSkimError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import { Compression, type DecoderCalls, type DecoderHandle } from "../native/binding.js";
import type { ImageSource } from "../registry/image-source.js";
import { ArrivedPieces } from "./arrived-pieces.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";
import type { ContentCounter } from "./counters.js";
import { isDamage, lateError, nobodyWaits, SpanDamage, SpanLost, unexpectedError } from "./fetch-failures.js";
import { compressedRange, nextRestart, type PlannedRun } from "./fetch-plan.js";
import type { PhaseTimes } from "./phase-clock.js";
import { type RunDescription, RunProgress } from "./run-progress.js";
import type { SpanStore } from "./span-store.js";
import type { SpanWait, UnwaitedRun } from "./span-wait.js";
import type { Traffic, Urgency } from "./traffic.js";
import { Watchdog } from "./watchdog.js";

/** Fetches of the same bytes before a span is given up: a bad cache or link on the way is often gone with another connection. */
const attemptsMax = 3;
/** How long a run without a waiter keeps its place, where there is no disk cache to go on for. */
const lingerMs = 5_000;

export interface FetchRunOptions {
  readonly archive: ContentArchive;
  readonly source: Pick<ImageSource, "readBlob">;
  readonly native: DecoderCalls;
  readonly store: SpanStore;
  readonly counters: Counters<ContentCounter>;
  readonly logger: Logger;
  readonly traffic: Traffic;
  /** Longest time without a span. */
  readonly readDeadlineMs: number;
}

interface Waiter {
  /** Of the run's clock: when it began to wait, and, once it has the span, what it waited for. */
  readonly before: PhaseTimes;
  spent?: PhaseTimes;
  resolve(bytes: Uint8Array): void;
  reject(error: unknown): void;
}

export class FetchRun {
  readonly layer: ContentLayer;
  readonly plan: PlannedRun;
  /** Runs and reads are numbered in the order they begin. */
  readonly sequence: number;
  readonly #options: FetchRunOptions;
  readonly #progress: RunProgress;
  /** Undefined once nobody but waiters wants the run. */
  #unwaited: UnwaitedRun | undefined;
  #failure: SkimError | undefined;
  #leaveTraffic = () => {};
  /** Set while bytes of an answer come. */
  #isArriving = false;
  #endArrival: (() => void) | undefined;
  readonly #waiters = new Map<number, Set<Waiter>>();
  readonly #abort = new AbortController();
  readonly #watchdog: Watchdog;
  /** The next span to be handed out: those before are done. */
  #position: number;
  #waiting = 0;
  /** Ends a pause of `#linger`. */
  #goOn = () => {};

  constructor(
    layer: ContentLayer,
    plan: PlannedRun,
    sequence: number,
    options: FetchRunOptions,
    unwaited?: UnwaitedRun,
  ) {
    this.layer = layer;
    this.#unwaited = unwaited;
    this.plan = plan;
    this.sequence = sequence;
    this.#options = options;
    this.#progress = new RunProgress(() => options.counters.add("retries_total"));
    this.#position = plan.start;
    this.#watchdog = new Watchdog(options.readDeadlineMs, () =>
      this.cancel(lateError(this.layer, this.#position, options.readDeadlineMs)),
    );
  }

  get position(): number {
    return this.#position;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** What made the whole run fail; undefined while it has not. */
  get failure(): SkimError | undefined {
    return this.#failure;
  }

  describe(): RunDescription {
    return this.#progress.describe();
  }

  get urgency(): Urgency {
    return this.#waiting > 0 ? "demand" : (this.#unwaited?.urgency ?? "fill");
  }

  /** True where the run is going to hand out `span`. */
  covers(span: number): boolean {
    return !this.#abort.signal.aborted && span >= this.#position && span < this.plan.end;
  }

  /** Waits for a span that the run covers. */
  wait(span: number): SpanWait {
    const waiters = this.#waiters.get(span) ?? new Set();
    this.#waiters.set(span, waiters);
    const { clock } = this.#progress;
    const before = clock.read();
    let waiter: Waiter | undefined;
    const bytes = new Promise<Uint8Array>((resolve, reject) => {
      waiter = { before, resolve, reject };
    });
    // Who waits for several spans fails with the first of them.
    bytes.catch(() => {});
    waiters.add(waiter!);
    this.#countWaiters(1);
    this.#goOn();
    const leave = () => {
      if (!waiters.delete(waiter!)) return;
      this.#countWaiters(-1);
      this.#endUnlessWanted();
    };
    const spent = () => waiter!.spent ?? clock.since(before);
    return { span, sequence: this.sequence, bytes, spent, leave };
  }

  /** Takes back what the run was begun for: from now on only waiters want it, and without one it ends. */
  release(): void {
    this.#unwaited = undefined;
    if (this.#waiting === 0) this.cancel(nobodyWaits());
  }

  /** Ends the run; who still waits gets `error`. */
  cancel(error: SkimError): void {
    this.#abort.abort(error);
    this.#goOn();
  }

  /** Resolves when nothing of the run is under way any more. Never rejects: failures go to the waiters. */
  async run(): Promise<void> {
    const { archive } = this.#options;
    const { end } = this.plan;
    let [lost, failed, failedAt, isAgain] = [0, 0, -1, false];
    this.#enterTraffic();
    try {
      while (this.#position < end) {
        this.#abort.signal.throwIfAborted();
        const restart = archive.restartSpan(this.#position);
        try {
          const fetched = this.#fetchFrom(restart, { isAgain, afterDamage: failedAt === restart });
          isAgain = true;
          await fetched;
        } catch (error) {
          this.#abort.signal.throwIfAborted();
          if (error instanceof SpanLost && lost++ < attemptsMax) continue;
          if (!isDamage(error)) throw error;
          failed = failedAt === restart ? failed + 1 : 1;
          failedAt = restart;
          this.#noteDamage(error, failed);
          if (failed >= attemptsMax) this.#giveUp(nextRestart(archive, this.layer, this.#position), error);
        }
      }
    } catch (error) {
      this.#failure = isSkimError(error) ? error : unexpectedError(this.layer, error);
      this.#fail(end, this.#failure);
    } finally {
      this.#watchdog.stop();
      this.#arrive(false);
      this.#leaveTraffic();
      this.#leaveTraffic = () => {};
    }
  }

  #endUnlessWanted(): void {
    if (this.#waiting === 0 && !this.#unwaited && !this.plan.toNextRestart) this.cancel(nobodyWaits());
  }

  #countWaiters(change: number): void {
    const before = this.urgency;
    this.#waiting += change;
    if (this.urgency === before || this.#position >= this.plan.end) return;
    this.#enterTraffic();
  }

  #enterTraffic(): void {
    const leave = this.#leaveTraffic;
    this.#leaveTraffic = this.#options.traffic.enter(this.urgency);
    leave();
    this.#arrive(this.#isArriving);
  }

  /** Bytes come, or do not any more: what others do depends on it where a reader waits for them. */
  #arrive(isArriving: boolean): void {
    this.#isArriving = isArriving;
    const holdsUp = isArriving && this.urgency === "demand";
    if (holdsUp) {
      this.#endArrival ??= this.#options.traffic.arriving();
    } else {
      this.#endArrival?.();
      this.#endArrival = undefined;
    }
  }

  async #fetchFrom(
    restart: number,
    { isAgain, afterDamage }: { isAgain: boolean; afterDamage: boolean },
  ): Promise<void> {
    const { archive, source, native, counters, traffic, readDeadlineMs } = this.#options;
    const { end, toNextRestart } = this.plan;
    const { digest, compressedBytes, compression } = this.layer;
    const decoder = native.decoderOpen(
      Compression[compression],
      archive.spanRecords(restart, end),
      archive.window(restart),
    );
    counters.add("fetch_requests_total");
    const range = compressedRange(archive, restart, end);
    this.#progress.requests(rangeLength(range), isAgain);
    const transfer = traffic.link.begin();
    this.#arrive(false);
    const abandoned = new AbortController();
    const blob = { digest, size: compressedBytes };
    const pieces = source.readBlob(blob, {
      range,
      signal: AbortSignal.any([this.#abort.signal, abandoned.signal]),
      afterDamage,
      onAttempt: (attempt) => this.#progress.attempts(attempt),
      // A run that fetches a whole layer, or has to wait for others, may take long; the watchdog sees to it that it gets on.
      ...(toNextRestart || this.#unwaited ? {} : { deadlineMs: readDeadlineMs }),
    });
    const arrived = new ArrivedPieces(pieces, (bytes) => {
      counters.add("fetched_bytes_total", bytes);
      this.#progress.arrived(bytes);
      transfer.arrived(bytes);
      this.#unwaited?.onArrived?.(bytes);
      this.#arrive(true);
      return this.#turn(this.#unwaited?.pace?.(bytes));
    });
    try {
      await this.#decode(arrived, decoder, restart);
      transfer.end();
    } catch (error) {
      // Whatever else is on its way must not be waited for.
      abandoned.abort(error);
      throw error;
    } finally {
      await arrived.close();
    }
  }

  /** Hands out the spans from `restart` on, as far as they are not done yet. */
  async #decode(arrived: ArrivedPieces, decoder: DecoderHandle, restart: number): Promise<void> {
    const { native, store, traffic } = this.#options;
    const { signal } = this.#abort;
    const { clock } = this.#progress;
    this.#watchdog.start();
    for (let decoding = restart; decoding < this.plan.end; ) {
      while (!native.decoderReady(decoder)) await this.#bring(arrived, decoder);
      const span = decoding;
      const cache = span < this.#position ? undefined : store.storing(this.layer, span);
      const next = () => {
        clock.enter("inflate");
        return cache
          ? native.decoderNextStored(decoder, cache, span - this.layer.spanFirst, this.#waiters.has(span))
          : native.decoderNext(decoder);
      };
      const decoded = await traffic.inflate(this.urgency, next, signal);
      clock.enter("queue");
      signal.throwIfAborted();
      if (!decoded) continue;
      this.#watchdog.start();
      const isStored = cache !== undefined && store.stored(this.layer, span, cache);
      if (span >= this.#position) await this.#handOut(span, decoded === true ? undefined : decoded, isStored);
      decoding++;
    }
  }

  /** Gives the decoder what has arrived, when something has. */
  async #bring(arrived: ArrivedPieces, decoder: DecoderHandle): Promise<void> {
    const { clock } = this.#progress;
    clock.enter("network");
    const pieces = await arrived.take();
    clock.enter("queue");
    if (pieces.length === 0) throw new SpanDamage("its bytes end too early");
    await this.#turn();
    this.#abort.signal.throwIfAborted();
    for (const piece of pieces) this.#options.native.decoderWrite(decoder, piece);
  }

  /** Waits until it is this run's turn, and for `pauseMs`. The time does not count as the network's. */
  #turn(pauseMs = 0): Promise<void> | undefined {
    const { traffic } = this.#options;
    if (this.urgency === "demand" || (pauseMs <= 0 && !traffic.mustWait(this.urgency))) return undefined;
    return this.#waitForTurn(pauseMs);
  }

  async #waitForTurn(pauseMs: number): Promise<void> {
    this.#watchdog.stop();
    await this.#options.traffic.turn(() => this.urgency, this.#abort.signal, pauseMs);
    this.#watchdog.start();
  }

  /** `decoded`: undefined where the bytes went straight to the disk, as nobody waited for them when they were decoded. */
  async #handOut(span: number, decoded: Uint8Array | undefined, isStored: boolean): Promise<void> {
    const { store } = this.#options;
    const bytes = decoded ?? (this.#waiters.has(span) ? await store.load(this.layer, span) : undefined);
    if (!bytes && this.#waiters.has(span)) throw new SpanLost("the cache has lost it again");
    this.#position = span + 1;
    const waiters = this.#takeWaiters(span);
    if (bytes && !isStored) store.put(this.layer, span, bytes, waiters.length > 0);
    else if (bytes && waiters.length > 0) store.hold(span, bytes);
    for (const waiter of waiters) waiter.resolve(bytes!);
    if (bytes || isStored) this.#unwaited?.onSpan?.(span);
    this.#watchdog.stop();
    await store.room();
    const isWanted = this.#waiting > 0 || this.#unwaited !== undefined;
    if (this.#position < this.plan.end && !isWanted && !store.keeps(this.layer)) await this.#linger();
    this.#watchdog.start();
    this.#abort.signal.throwIfAborted();
  }

  /** Waits for somebody to join; nobody: the run is over. */
  async #linger(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    const timer = setTimeout(() => this.cancel(nobodyWaits()), lingerMs).unref();
    await new Promise<void>((resolve) => {
      this.#goOn = resolve;
    });
    this.#goOn = () => {};
    clearTimeout(timer);
  }

  /** Fails the spans before `next` and goes on with it, where somebody still waits for more. */
  #giveUp(next: number, cause: unknown): void {
    const { digest, spanFirst } = this.layer;
    const span = this.#position - spanFirst;
    const message = `span ${span} of layer ${digest}: the registry's bytes are not what the archive names, ${attemptsMax} times in a row: ${describeError(cause)}; check the blob in the registry, or index the image again`;
    const error = new SkimError("DIGEST_MISMATCH", message, { cause });
    this.#fail(next, error);
    this.#unwaited?.onDamage?.(error);
    if (this.#waiting === 0 && !this.#unwaited) throw nobodyWaits();
  }

  #fail(next: number, error: SkimError): void {
    const first = this.#position;
    this.#position = next;
    for (let span = first; span < next && this.#waiting > 0; span++) {
      for (const waiter of this.#takeWaiters(span)) waiter.reject(error);
    }
  }

  #takeWaiters(span: number): Waiter[] {
    const waiters = this.#waiters.get(span);
    if (!waiters) return [];
    this.#waiters.delete(span);
    const taken = [...waiters];
    waiters.clear();
    for (const waiter of taken) waiter.spent = this.#progress.clock.since(waiter.before);
    this.#countWaiters(-taken.length);
    return taken;
  }

  #noteDamage(error: unknown, failed: number): void {
    const { counters, logger } = this.#options;
    counters.add("verification_failures_total");
    const { digest, spanFirst } = this.layer;
    logger.warn(
      { layer: digest, span: this.#position - spanFirst, attempt: failed, error: describeError(error) },
      "bytes from the registry are not those of the layer",
    );
  }
}
