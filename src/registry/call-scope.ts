import { setMaxListeners } from "node:events";
import { SkimError } from "../base/errors.js";

/** Longest delay setTimeout takes; a longer one would fire at once (24.8 days). */
const timerMsMax = 2 ** 31 - 1;

/**
 * One call of a caller: its AbortSignal and its deadline as one signal, whose reason is always the SkimError to throw.
 *
 * Everything below a call (attempts, waits, bodies) listens to `signal` only. AbortSignal.any is not used: on Node 20 it keeps what
 * was combined with a signal alive as long as that signal, and a mount's signal lives for days. `end` undoes all listening.
 */
export class CallScope {
  readonly signal: AbortSignal;
  readonly #what: string;
  readonly #endsAt: number;
  readonly #abort = new AbortController();
  readonly #release: () => void;

  /** `what` completes the sentences of errors, e.g. "reading the manifest of x". `endsAt` is a time of performance.now(). */
  constructor(what: string, caller: AbortSignal | undefined, endsAt = Number.POSITIVE_INFINITY) {
    this.#what = what;
    this.#endsAt = endsAt;
    this.signal = this.#abort.signal;
    const cancel = () => this.#abort.abort(cancelled(what, caller));
    if (caller?.aborted) cancel();
    if (caller) {
      // All readers of a mount share a signal: many listeners are no leak, and each call takes its own away.
      setMaxListeners(0, caller);
      caller.addEventListener("abort", cancel, { once: true });
    }
    const remaining = this.remainingMs();
    const timer =
      remaining <= timerMsMax ? setTimeout(() => this.#abort.abort(this.late()), remaining) : undefined;
    // What is waited for (a socket, a backoff) keeps the process alive; a deadline alone must not.
    timer?.unref();
    this.#release = () => {
      clearTimeout(timer);
      caller?.removeEventListener("abort", cancel);
    };
  }

  /** Milliseconds until the deadline, 0 when it has passed, Infinity without one. */
  remainingMs(): number {
    return Math.max(0, this.#endsAt - performance.now());
  }

  /** Throws CANCELLED or DEADLINE_EXCEEDED when the call is over. */
  check(): void {
    if (this.signal.aborted) throw this.signal.reason;
    if (this.remainingMs() === 0) throw this.late();
  }

  /** The error of a deadline that has passed, or would pass before anything more can be tried. */
  late(cause?: unknown): SkimError {
    const last = cause instanceof Error ? `; the last attempt failed: ${cause.message}` : "";
    return new SkimError("DEADLINE_EXCEEDED", `${this.#what}: not done within its deadline${last}`, {
      ...(cause === undefined ? {} : { cause }),
    });
  }

  end(): void {
    this.#release();
  }
}

function cancelled(what: string, caller: AbortSignal | undefined): SkimError {
  return new SkimError("CANCELLED", `${what}: cancelled`, { cause: caller?.reason });
}

/** Resolves after `ms`, rejects with the signal's reason when it fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** `work`, or the signal's reason as soon as it fires; a result that comes too late is handed to `discard`. */
export function orAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
  discard: (late: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      reject(signal.reason);
      work.then(discard, () => {});
    };
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    const settle = () => signal.removeEventListener("abort", stop);
    work.then(
      (value) => {
        settle();
        if (!signal.aborted) resolve(value);
      },
      (error: unknown) => {
        settle();
        reject(error);
      },
    );
  });
}
