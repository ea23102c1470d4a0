/**
 * Reads a stream while its consumer is busy: pieces are pulled as they come, up to `bytesMax` that are waiting, and handed over joined.
 * So the network and inflating overlap, and a source of many small pieces costs few calls into the thread pool.
 */
export class ReadAhead {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #bytesMax: number;
  #pieces: Uint8Array[] = [];
  #waitingBytes = 0;
  /** Set while the source is asked for a piece. */
  #pulling = false;
  #ended = false;
  #failure: { error: unknown } | undefined;
  #wake = () => {};

  /** Owns the iteration of `source` from here on; the consumer calls `close`. */
  constructor(source: AsyncIterable<Uint8Array>, bytesMax: number) {
    this.#iterator = source[Symbol.asyncIterator]();
    this.#bytesMax = bytesMax;
    this.#pull();
  }

  /** All bytes that have come since the last call, at least one; undefined at the end. Throws what the source threw, behind its bytes. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#waitingBytes === 0) {
      if (this.#failure) throw this.#failure.error;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#waitingBytes = 0;
    this.#pull();
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  }

  /** Ends the iteration. Where the source is in the middle of a piece it ends behind it, which is not waited for. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    // A failure to end a stream that nobody wants any more changes nothing.
    const closing = Promise.resolve(this.#iterator.return?.()).catch(() => {});
    if (!this.#pulling) await closing;
  }

  #pull(): void {
    if (this.#pulling || this.#ended || this.#failure || this.#waitingBytes >= this.#bytesMax) return;
    this.#pulling = true;
    this.#iterator.next().then(
      (result) => {
        this.#pulling = false;
        if (result.done) {
          this.#ended = true;
        } else if (result.value.length > 0) {
          this.#pieces.push(result.value);
          this.#waitingBytes += result.value.length;
        }
        this.#wake();
        this.#pull();
      },
      (error: unknown) => {
        this.#pulling = false;
        this.#ended = true;
        this.#failure = { error };
        this.#wake();
      },
    );
  }
}
