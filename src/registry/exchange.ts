import type { Dispatcher } from "undici";

/**
 * One request and the body of its answer, straight from undici's parser. No stream lies between: a start receives a thousand pieces, and a Readable with an
 * async iterator took as much of the processor for each as all that is done with it.
 */

/** What has come and nobody has taken; beyond it the parser pauses, and TCP holds up the sender. Pausing costs more than a piece does. */
const heldBytesMax = 256 * 1024;

export interface AnswerHead {
  readonly status: number;
  /** Names in lower case; what was sent several times is joined with commas. */
  readonly headers: Readonly<Record<string, string | undefined>>;
}

export class Exchange implements Dispatcher.DispatchHandler {
  /** Rejects with what undici throws, or the reason of the signal: at once, though undici notices it only once it has a connection. */
  readonly head: Promise<AnswerHead>;
  #settleHead: { resolve(head: AnswerHead): void; reject(error: unknown): void } | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  #pieces: Buffer[] = [];
  #heldBytes = 0;
  /** Of the body, what is still to come; undefined where its length was not said. */
  #leftBytes: number | undefined;
  #isEnded = false;
  #failure: { readonly error: unknown } | undefined;
  #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.destroy(this.#signal!.reason);
  #wake = () => {};
  /** Of a body that is let go of: what may still come of it. */
  #restBytes: number | undefined;

  /** To be dispatched next. An abort of `signal` ends it, until the last byte has come. */
  constructor(signal: AbortSignal) {
    this.head = new Promise((resolve, reject) => {
      this.#settleHead = { resolve, reject };
    });
    // Who has left does not ask any more.
    this.head.catch(() => {});
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  /** What has come of the body, at least a byte; empty at its end. Throws what ended it before, behind its last byte. */
  async read(): Promise<Buffer[]> {
    while (this.#pieces.length === 0 && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#pieces.length === 0 && this.#failure) throw this.#failure.error;
    return this.#take();
  }

  /**
   * Lets go of the body: what comes is thrown away, so that its connection can be used again; where that is more than `restBytesMax`, the connection is cut. Resolves
   * when either is done.
   */
  async discard(restBytesMax: number): Promise<void> {
    this.#restBytes = restBytesMax;
    this.#take();
    if ((this.#leftBytes ?? 0) > restBytesMax) this.destroy(new Error("the rest of the body is not wanted"));
    while (!this.#isEnded) await this.read().catch(() => {});
  }

  /** Ends it, with its connection where that is not done with it. What was not read of the body is lost. */
  destroy(reason: unknown): void {
    if (this.#isEnded) return;
    this.#pieces = [];
    // undici passes it on to onResponseError, where it has a connection already.
    this.#controller?.abort(reason as Error);
    this.#end({ error: reason });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure) controller.abort(this.#failure.error as Error);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // 1xx: another one follows.
    if (status < 200 || this.#isEnded) return;
    const joined = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, String(value ?? "")]),
    );
    const length = joined["content-length"];
    this.#leftBytes = length === undefined ? undefined : Number(length);
    this.#settleHead?.resolve({ status, headers: joined });
    this.#settleHead = undefined;
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    if (this.#isEnded) return;
    if (this.#leftBytes !== undefined) this.#leftBytes -= piece.length;
    if (this.#restBytes !== undefined) {
      this.#restBytes -= piece.length;
      if (this.#restBytes < 0) this.destroy(new Error("the rest of the body is not wanted"));
      return;
    }
    this.#pieces.push(piece);
    this.#heldBytes += piece.length;
    if (this.#heldBytes >= heldBytesMax) controller.pause();
    this.#wake();
  }

  onResponseEnd(): void {
    this.#end(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#end({ error });
  }

  #take(): Buffer[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#heldBytes = 0;
    // Goes on at once with what the socket holds already.
    this.#controller?.resume();
    return pieces;
  }

  #end(failure: { readonly error: unknown } | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#failure = failure;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#signal = undefined;
    if (failure) this.#settleHead?.reject(failure.error);
    this.#settleHead = undefined;
    this.#wake();
  }
}
