/** What comes through a descriptor, piece by piece. */
import { Socket, type SocketConstructorOpts } from "node:net";

export interface Pieces {
  /** Undefined at the end. A piece is only valid until the next one is asked for. */
  next(): Promise<Uint8Array | undefined>;
  /** Nobody reads any more: who writes sees so. */
  close(): void;
}

/** More than a socket holds. */
const pieceBytesMax = 1 << 18;

/** All pieces are in one piece of memory: a stream's buffers, a new one for each read, pile up by tens of megabytes before V8 collects them. */
export class DescriptorPieces implements Pieces {
  readonly #socket: Socket;
  #piece: Uint8Array | undefined;
  #isEnded = false;
  #wake: () => void = () => {};

  /** Takes over `fd`, a stream socket. */
  constructor(fd: number) {
    const buffer = Buffer.allocUnsafeSlow(pieceBytesMax);
    const callback = (length: number) => {
      this.#piece = buffer.subarray(0, length);
      this.#wake();
      // Not on until this one is used.
      return false;
    };
    // The types of node's version have `onread` for connect() alone; the constructor takes it as well.
    const options = { fd, readable: true, writable: false, onread: { buffer, callback } };
    this.#socket = new Socket(options as SocketConstructorOpts);
    const end = () => {
      this.#isEnded = true;
      this.#wake();
    };
    this.#socket.once("end", end).once("close", end).on("error", end);
  }

  async next(): Promise<Uint8Array | undefined> {
    if (!this.#piece && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#socket.resume();
      });
    }
    const piece = this.#piece;
    this.#piece = undefined;
    return piece;
  }

  close(): void {
    this.#socket.destroy();
  }
}
