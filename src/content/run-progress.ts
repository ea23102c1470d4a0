/** How far a run has come, for whoever looks at it from outside. */
import type { BlobAttempt } from "../registry/image-source.js";
import { PhaseClock } from "./phase-clock.js";

export class RunProgress {
  readonly clock = new PhaseClock();
  readonly #begunAt = performance.now();
  readonly #onRetry: () => void;
  #attempt = 0;
  #host: string | undefined;
  #requestedBytes = 0;
  #arrivedBytes = 0;

  /** `onRetry` is called with each attempt behind the first of a request. */
  constructor(onRetry: () => void) {
    this.#onRetry = onRetry;
  }

  /** The run asks for `bytes`; `isAgain`: for some that it has asked for before. */
  requests(bytes: number, isAgain: boolean): void {
    this.#requestedBytes = bytes;
    this.#arrivedBytes = 0;
    this.#tries(isAgain);
  }

  /** The source asks somebody. */
  attempts({ host, isRetry }: BlobAttempt): void {
    this.#host = host;
    if (isRetry) this.#tries(true);
  }

  arrived(bytes: number): void {
    this.#arrivedBytes += bytes;
  }

  describe(): RunDescription {
    return {
      phase: this.clock.phase,
      ageMs: performance.now() - this.#begunAt,
      host: this.#host,
      attempt: this.#attempt,
      requestedBytes: this.#requestedBytes,
      arrivedBytes: this.#arrivedBytes,
    };
  }

  #tries(isAgain: boolean): void {
    this.#attempt++;
    if (isAgain) this.#onRetry();
  }
}

export interface RunDescription {
  /** What it is busy with. */
  readonly phase: PhaseClock["phase"];
  /** Since it began. */
  readonly ageMs: number;
  /** Who was asked last; undefined where nobody was yet, or no host is: an OCI layout. */
  readonly host: string | undefined;
  /** From 1 on; 0 where nothing was asked for yet. */
  readonly attempt: number;
  /** Compressed bytes of the request that is under way, and of these, how many have come. */
  readonly requestedBytes: number;
  readonly arrivedBytes: number;
}
