/** Bytes of an answer that have arrived and are not decoded yet: the network goes on while a span is inflated. */

/** Beyond it nothing is read, and TCP's window closes. */
const heldBytesMax = 1024 * 1024;

/** Shorter ones, on average, are put together: what each costs would be more than what its bytes do. A server may send chunks of a byte. */
const pieceBytesMin = 4096;

export class ArrivedPieces {
  readonly #reading: Promise<void>;
  readonly #onPiece: (bytes: number) => Promise<void> | undefined;
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;
  #isEnded = false;
  #isClosed = false;
  #failure: unknown;
  #wake = () => {};

  /** Begins to read. `onPiece` is called with the length of each piece as it arrives; no further one is read before what it returns resolves. */
  constructor(source: AsyncIterable<Uint8Array>, onPiece: (bytes: number) => Promise<void> | undefined) {
    this.#onPiece = onPiece;
    this.#reading = this.#read(source);
  }

  /** All that has arrived, at least a byte, in few pieces; empty at the end. Throws what the source has thrown, behind its last byte. */
  async take(): Promise<Uint8Array[]> {
    while (this.#pieces.length === 0 && !this.#isEnded) await this.#change();
    if (this.#pieces.length === 0 && this.#failure !== undefined) throw this.#failure;
    const pieces = this.#pieces;
    const areShort = pieces.length > 1 && this.#heldBytes < pieces.length * pieceBytesMin;
    this.#pieces = [];
    this.#heldBytes = 0;
    this.#wake();
    return areShort ? [Buffer.concat(pieces)] : pieces;
  }

  /** Reads no more, unless all has been read. Resolves when the source has ended; never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    await this.#reading;
  }

  async #read(source: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const piece of source) {
        if (piece.length > 0) {
          const pause = this.#onPiece(piece.length);
          if (pause) await pause;
          this.#pieces.push(piece);
          this.#heldBytes += piece.length;
          this.#wake();
        }
        while (this.#heldBytes >= heldBytesMax && !this.#isClosed) await this.#change();
        if (this.#isClosed) return;
      }
    } catch (error) {
      this.#failure = error ?? new Error("reading an answer failed");
    } finally {
      this.#isEnded = true;
      this.#wake();
    }
  }

  /** Reader and taker never wait at the same time: one waits for bytes, the other for room. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = () => {};
        resolve();
      };
    });
  }
}
