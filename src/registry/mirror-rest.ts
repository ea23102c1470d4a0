/**
 * How long a mirror that failed is left alone: longer with each failure in a row, and never for good.
 *
 * Many readers fail together when a mirror goes away. Only the first of them counts: an attempt that began before the rest did says nothing new.
 */
export interface RestPolicy {
  readonly firstMs: number;
  readonly factor: number;
  readonly msMax: number;
}

/** The first rest outlasts a restart; the longest is what an operator who has mended a mirror may have to wait. */
export const defaultRestPolicy: RestPolicy = { firstMs: 5_000, factor: 2, msMax: 300_000 };

/** Times are of performance.now(). */
export class Rest {
  readonly #policy: RestPolicy;
  #failures = 0;
  #since = Number.NEGATIVE_INFINITY;
  #until = Number.NEGATIVE_INFINITY;
  /** What the last failure was. */
  reason = "";

  constructor(policy: RestPolicy) {
    this.#policy = policy;
  }

  /** True from a failure until `end`: whoever comes when the rest is over tries it out. */
  get hasFailed(): boolean {
    return this.#failures > 0;
  }

  isResting(now: number): boolean {
    return now < this.#until;
  }

  /** Until the rest is over; 0 where it is. */
  leftMs(now: number): number {
    return Math.max(0, this.#until - now);
  }

  /** A failure of an attempt that began at `attemptStartedAt`. `atLeastMs`: what a Retry-After asked for. */
  begin(reason: string, attemptStartedAt: number, now: number, atLeastMs = 0): void {
    if (attemptStartedAt < this.#since) return;
    const { firstMs, factor, msMax } = this.#policy;
    const backoffMs = firstMs * factor ** this.#failures;
    this.#failures++;
    this.reason = reason;
    this.#since = now;
    this.#until = now + Math.min(Math.max(backoffMs, atLeastMs), msMax);
  }

  end(): void {
    this.#failures = 0;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
