import { describeError, isSkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { ErrnoError } from "../filesystem/errno-error.js";

/** A registry that is down fails every read: one line in so much time says it, the others are counted. */
const quietMs = 5_000;

/** Logs operations that failed for a reason that is not the caller's, without letting a storm of them fill a disk. */
export class FailureLog {
  readonly #logger: Logger;
  #nextLineAt = 0;
  #suppressed = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  report(operation: string, error: unknown, details: Record<string, unknown>): void {
    // The filesystem's answers to what cannot be, and reads that nobody waits for any more, are no failures.
    if (error instanceof ErrnoError && error.code !== "INTERNAL") return;
    if (isSkimError(error, "CANCELLED")) return;
    const now = performance.now();
    if (now < this.#nextLineAt) {
      this.#suppressed++;
      return;
    }
    this.#nextLineAt = now + quietMs;
    this.#logger.warn(
      { operation, ...details, error: describeError(error), suppressed: this.#suppressed },
      "operation failed",
    );
    this.#suppressed = 0;
  }
}
