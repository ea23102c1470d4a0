/** Longest delay setTimeout takes (24.8 days); a longer one would fire at once. */
const timerMsMax = 2 ** 31 - 1;

/** Calls `onLate` when it was started and not stopped, or started again, within `limitMs`. */
export class Watchdog {
  readonly #limitMs: number;
  readonly #onLate: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number, onLate: () => void) {
    this.#limitMs = Math.min(limitMs, timerMsMax);
    this.#onLate = onLate;
  }

  start(): void {
    this.stop();
    this.#timer = setTimeout(this.#onLate, this.#limitMs).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
