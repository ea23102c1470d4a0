/** Notes the spans that a start touches, and when, until it is finished or its time is over. */
import type { TouchedSpan } from "./start-profile.js";

export interface StartRecorderOptions {
  /** As Content.onTouch: calls the listener with each span that is touched for the first time. */
  readonly onTouch: (listener: (span: number) => void) => () => void;
  /** What comes later is no start any more. */
  readonly durationMs: number;
  readonly onFinished: (touched: readonly TouchedSpan[]) => void;
}

export class StartRecorder {
  readonly #touched: TouchedSpan[] = [];
  readonly #stop: () => void;
  readonly #timer: NodeJS.Timeout;
  readonly #onFinished: StartRecorderOptions["onFinished"];
  #isFinished = false;

  constructor(options: StartRecorderOptions) {
    const begunAt = performance.now();
    this.#onFinished = options.onFinished;
    this.#stop = options.onTouch((span) => {
      this.#touched.push({ span, ms: Math.round((performance.now() - begunAt) * 10) / 10 });
    });
    this.#timer = setTimeout(() => this.finish(), options.durationMs).unref();
  }

  /** Hands over what was touched so far. May be called twice. */
  finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    clearTimeout(this.#timer);
    this.#stop();
    this.#onFinished(this.#touched);
  }
}
