/** When a conversation about files is given up: at the caller's word, when nothing moves any more, when it takes too long. */
import { SkimError } from "../base/errors.js";

export interface CopyTimes {
  /** All of it. 0: no limit. */
  readonly timeoutMs: number;
  /** Between two things that come from the container, or go to it. 0: no limit. */
  readonly stallTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Looks this often, at least: a timer of its own for each piece that moves would cost more than moving it. */
const lookMsMax = 1000;

export class CopyClock {
  readonly #abort = new AbortController();
  readonly #times: CopyTimes;
  readonly #what: string;
  readonly #startedAt = performance.now();
  readonly #timer: NodeJS.Timeout;
  #movedAt = this.#startedAt;

  /** `what` names it in errors. */
  constructor(what: string, times: CopyTimes) {
    this.#what = what;
    this.#times = times;
    const limits = [times.timeoutMs, times.stallTimeoutMs].filter((limit) => limit > 0);
    this.#timer = setInterval(
      () => this.#look(),
      Math.ceil(Math.min(lookMsMax, ...limits.map((limit) => limit / 4))),
    );
    times.signal?.addEventListener("abort", this.#cancel, { once: true });
    if (times.signal?.aborted) this.#cancel();
  }

  /** Aborted with the SkimError that says why: CANCELLED or DEADLINE_EXCEEDED. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  moved(): void {
    this.#movedAt = performance.now();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#times.signal?.removeEventListener("abort", this.#cancel);
  }

  #cancel = () => {
    this.#giveUp("CANCELLED", "was cancelled", this.#times.signal?.reason);
  };

  #look(): void {
    const { timeoutMs, stallTimeoutMs } = this.#times;
    const now = performance.now();
    if (timeoutMs > 0 && now - this.#startedAt >= timeoutMs)
      this.#giveUp("DEADLINE_EXCEEDED", `did not come to its end within ${timeoutMs} ms`);
    if (stallTimeoutMs > 0 && now - this.#movedAt >= stallTimeoutMs)
      this.#giveUp("DEADLINE_EXCEEDED", `was given up: nothing has moved for ${stallTimeoutMs} ms`);
  }

  #giveUp(code: "CANCELLED" | "DEADLINE_EXCEEDED", how: string, cause?: unknown): void {
    this.#abort.abort(new SkimError(code, `${this.#what} ${how}`, { cause }));
  }
}
