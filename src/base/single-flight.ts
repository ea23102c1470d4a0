import { setMaxListeners } from "node:events";

/**
 * Joins callers that want the same thing at the same time into one run of the work.
 *
 * The work has an AbortSignal of its own, which fires only when the last waiter has gone: a waiter never inherits the
 * cancellation of the caller whose request it joined. Nothing is remembered once the work has settled, least of all a failure.
 */
export class SingleFlight<Key, Value> {
  readonly #flights = new Map<Key, { promise: Promise<Value>; abort: AbortController; waiters: number }>();

  /** How many different keys are under way. */
  get inFlight(): number {
    return this.#flights.size;
  }

  has(key: Key): boolean {
    return this.#flights.has(key);
  }

  /** Joins the run for `key`, or starts one. Rejects with `signal.reason` as soon as `signal` fires. */
  run(key: Key, work: (signal: AbortSignal) => Promise<Value>, signal?: AbortSignal): Promise<Value> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    let flight = this.#flights.get(key);
    if (!flight) {
      const abort = new AbortController();
      const started = { promise: Promise.resolve().then(() => work(abort.signal)), abort, waiters: 0 };
      const forget = () => {
        if (this.#flights.get(key) === started) this.#flights.delete(key);
      };
      started.promise.then(forget, forget);
      this.#flights.set(key, started);
      flight = started;
    }
    return this.#wait(key, flight, signal);
  }

  async #wait(
    key: Key,
    flight: { promise: Promise<Value>; abort: AbortController; waiters: number },
    signal?: AbortSignal,
  ): Promise<Value> {
    flight.waiters++;
    let stopListening = () => {};
    try {
      if (!signal) return await flight.promise;
      // Hundreds of readers may share one signal; node would warn of a leak at the eleventh.
      setMaxListeners(0, signal);
      const aborted = new Promise<never>((_, reject) => {
        const onAbort = () => reject(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
        stopListening = () => signal.removeEventListener("abort", onAbort);
      });
      return await Promise.race([flight.promise, aborted]);
    } finally {
      stopListening();
      if (--flight.waiters === 0 && this.#flights.get(key) === flight) {
        // Nobody is left to want it. A caller that comes now starts a run of its own.
        this.#flights.delete(key);
        flight.promise.catch(() => {});
        flight.abort.abort(new DOMException("nobody waits for this any more", "AbortError"));
      }
    }
  }
}
