/**
 * The frames that are exchanged with skim-files (native/files/frames.h): a type (1 byte), a length (4 bytes, little endian), that many bytes.
 *
 * What comes is not trusted: under gVisor the program runs where the container's root could tamper with it.
 */
import { SkimError } from "../base/errors.js";
import type { Pieces } from "./descriptor-pieces.js";

/** Longest payload, in either direction. */
export const frameBytesMax = 1 << 18;

export interface Frame {
  readonly type: string;
  readonly payload: Buffer;
}

export function encodeFrame(type: string, payload: Uint8Array): Buffer {
  return Buffer.concat([frameHeader(type, payload.byteLength), payload]);
}

export function frameHeader(type: string, length: number): Buffer {
  const header = Buffer.allocUnsafe(5);
  header.writeUInt8(type.charCodeAt(0), 0);
  header.writeUInt32LE(length, 1);
  return header;
}

/** Numbers (little endian) and bytes one after the other. */
export class Payload {
  readonly #parts: Buffer[] = [];

  u8(value: number): this {
    this.#parts.push(Buffer.from([value]));
    return this;
  }

  u32(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeUInt32LE(value);
    this.#parts.push(part);
    return this;
  }

  i64(value: number | bigint): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigInt64LE(BigInt(value));
    this.#parts.push(part);
    return this;
  }

  /** With their length (2 bytes) before them. */
  bytes(value: Uint8Array): this {
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16LE(value.byteLength);
    this.#parts.push(length, Buffer.from(value));
    return this;
  }

  rest(value: Uint8Array): this {
    this.#parts.push(Buffer.from(value));
    return this;
  }

  encode(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Takes a payload apart. Throws RUNTIME_FAILED where it is too short. */
export class Fields {
  readonly #payload: Buffer;
  #at = 0;

  constructor(payload: Buffer) {
    this.#payload = payload;
  }

  u8(): number {
    return this.#take(1).readUInt8();
  }

  u32(): number {
    return this.#take(4).readUInt32LE();
  }

  u64(): bigint {
    return this.#take(8).readBigUInt64LE();
  }

  i64(): bigint {
    return this.#take(8).readBigInt64LE();
  }

  bytes(): Buffer {
    return this.#take(this.#take(2).readUInt16LE());
  }

  rest(): Buffer {
    return this.#take(this.#payload.byteLength - this.#at);
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#payload.byteLength) throw brokenProtocol("a frame is too short");
    const taken = this.#payload.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

export function brokenProtocol(what: string): SkimError {
  return new SkimError(
    "RUNTIME_FAILED",
    `the program in the container does not answer as it should: ${what}`,
  );
}

/** Frames one at a time; nothing is read beyond the piece that the last one ended in. */
export class FrameReader {
  readonly #pieces: Pieces;
  #piece: Uint8Array = Buffer.alloc(0);
  readonly #header = Buffer.alloc(5);
  readonly #payload = Buffer.allocUnsafeSlow(frameBytesMax);

  constructor(pieces: Pieces) {
    this.#pieces = pieces;
  }

  /** Its payload is only valid until the next one. Undefined at the end. Throws RUNTIME_FAILED for what is no frame. */
  async next(): Promise<Frame | undefined> {
    if (!(await this.#fill(this.#header))) return undefined;
    const length = this.#header.readUInt32LE(1);
    if (length > frameBytesMax) throw brokenProtocol(`a frame of ${length} bytes`);
    const payload = this.#payload.subarray(0, length);
    if (!(await this.#fill(payload))) return undefined;
    return { type: String.fromCharCode(this.#header[0]!), payload };
  }

  async #fill(target: Buffer): Promise<boolean> {
    for (let at = 0; at < target.byteLength; ) {
      if (this.#piece.byteLength === 0) {
        const piece = await this.#pieces.next();
        if (!piece) return false;
        this.#piece = piece;
      }
      const taken = this.#piece.subarray(0, target.byteLength - at);
      target.set(taken, at);
      at += taken.byteLength;
      this.#piece = this.#piece.subarray(taken.byteLength);
    }
    return true;
  }
}
