import { isSkimError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { type CallScope, pause } from "./call-scope.js";

/**
 * When an attempt is repeated, and after how long.
 *
 * Exactly one loop repeats each kind of work (a manifest, a token, a blob read), so that retries never multiply: what one loop gives
 * up on is a plain SkimError, and only a TransientFailure is tried again. The one exception is an outage of a token service, which a read with a
 * deadline sits out as it does that of the registry (`wasRepeated`).
 */

/** An attempt failed in a way that the next one may not. `error` is what the caller gets if there is no next one. */
export class TransientFailure extends Error {
  readonly error: SkimError;
  /** What the server asked for with Retry-After. */
  readonly retryAfterMs: number | undefined;
  /** Another loop has repeated it until it gave up: only work that sits out an outage goes on. */
  readonly wasRepeated: boolean;

  constructor(error: SkimError, retryAfterMs?: number, wasRepeated = false) {
    super(error.message, { cause: error });
    this.error = error;
    this.retryAfterMs = retryAfterMs;
    this.wasRepeated = wasRepeated;
  }
}

export interface RetryPolicy {
  /**
   * Attempts in a row without progress. An outage (REGISTRY_UNAVAILABLE) of work that has a deadline is sat out until then instead: a
   * container waits for those bytes, and most outages are shorter than its patience.
   */
  readonly attemptsMax: number;
  readonly firstDelayMs: number;
  /** Each delay is this many times the one before. */
  readonly delayFactor: number;
  readonly delayMsMax: number;
  /** A longer Retry-After is not waited for: the caller is told instead. */
  readonly retryAfterMsMax: number;
}

/**
 * The first delay is short, because the commonest failure is a kept-alive connection that the server has just closed. The four delays
 * together (8.5 s before jitter) outlast a registry's restart, and stay well below the deadline of a read.
 */
export const defaultRetryPolicy: RetryPolicy = {
  attemptsMax: 5,
  firstDelayMs: 100,
  delayFactor: 4,
  delayMsMax: 6_400,
  retryAfterMsMax: 60_000,
};

/** Counts the attempts of one piece of work. */
export class Attempts {
  readonly #policy: RetryPolicy;
  readonly #scope: CallScope;
  readonly #logger: Logger;
  #failed = 0;
  #exhausted = false;
  #lastError: SkimError | undefined;

  constructor(policy: RetryPolicy, scope: CallScope, logger: Logger) {
    this.#policy = policy;
    this.#scope = scope;
    this.#logger = logger;
  }

  /** True when the last attempt there was has failed. */
  get exhausted(): boolean {
    return this.#exhausted;
  }

  /** The work got on: earlier failures do not count any more. */
  progressed(): void {
    this.#failed = 0;
  }

  /** Resolves when the next attempt is due. Throws what the caller is to get where there is none. */
  async afterFailure(failure: unknown): Promise<void> {
    if (failure instanceof TransientFailure) this.#lastError = failure.error;
    if (this.#scope.signal.aborted) throw this.#over();
    if (!(failure instanceof TransientFailure)) throw failure;
    this.#failed++;
    const { error, retryAfterMs } = failure;
    const sitsOut = error.code === "REGISTRY_UNAVAILABLE" && Number.isFinite(this.#scope.remainingMs());
    if (failure.wasRepeated && !sitsOut) throw error;
    if (this.#failed >= this.#policy.attemptsMax && !sitsOut) {
      this.#exhausted = true;
      throw new SkimError(error.code, `${error.message} (${this.#failed} attempts)`, { cause: error });
    }
    const { firstDelayMs, delayFactor, delayMsMax } = this.#policy;
    const backoffMs = Math.min(firstDelayMs * delayFactor ** (this.#failed - 1), delayMsMax);
    // Jitter, so that readers that failed together do not come back together.
    // A server that names no time, one that has passed, or one that our clock is beyond must not use up the attempts at once.
    const delayMs = Math.max(retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
    if (retryAfterMs !== undefined && retryAfterMs > this.#policy.retryAfterMsMax) {
      const seconds = Math.ceil(retryAfterMs / 1000);
      throw new SkimError(error.code, `${error.message}; it asks to come back in ${seconds} s`, {
        cause: error,
      });
    }
    if (delayMs >= this.#scope.remainingMs()) throw this.#scope.late(error);
    this.#logger.warn(
      { reason: error.message, attempt: this.#failed, delayMs: Math.round(delayMs) },
      "registry attempt failed",
    );
    await pause(delayMs, this.#scope.signal).catch(() => {
      throw this.#over();
    });
  }

  /** The reason of the signal; for a deadline with what failed before it. */
  #over(): unknown {
    const reason: unknown = this.#scope.signal.reason;
    return isSkimError(reason, "DEADLINE_EXCEEDED") ? this.#scope.late(this.#lastError) : reason;
  }
}

/** Repeats `attempt` until it succeeds, fails for good, or there is no attempt left. */
export async function retrying<T>(attempts: Attempts, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (failure) {
      await attempts.afterFailure(failure);
    }
  }
}

/** Retry-After (RFC 9110 10.2.3): seconds or an HTTP date. Undefined for anything else; 0 for a date that has passed. */
export function retryAfterMs(header: string | undefined, now = Date.now()): number | undefined {
  const text = header?.trim();
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = /^[A-Za-z]{3,9},/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
