import type { ByteString } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";

/** V8's Map holds 2^24 entries and throws a RangeError beyond. */
export const mapEntriesMax = 2 ** 24;

/** Throws LIMIT_EXCEEDED where a section of `bytes` would not be below 4 GiB. */
export function requireSectionBytes(section: string, bytes: number): void {
  if (bytes < limits.archiveSectionBytesMax) return;
  throw new SkimError(
    "LIMIT_EXCEEDED",
    `the archive's section ${section} would have ${bytes} bytes; an archive holds less than 4 GiB of it, so this image cannot be indexed`,
  );
}

/** Bytes of one section that grow at the end. */
export class GrowableBytes {
  readonly #section: string;
  #bytes = Buffer.alloc(64 * 1024);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  constructor(section: string) {
    this.#section = section;
  }

  get length(): number {
    return this.#length;
  }

  /** Of the bytes reserved so far; not valid any more after the next `reserve`. */
  get view(): DataView {
    return this.#view;
  }

  /** Adds `length` zero bytes and gives their offset. Throws LIMIT_EXCEEDED. */
  reserve(length: number): number {
    const offset = this.#length;
    const end = offset + length;
    requireSectionBytes(this.#section, end);
    if (end > this.#bytes.length) {
      const capacity = Math.min(Math.max(end, 2 * this.#bytes.length), limits.archiveSectionBytesMax - 1);
      const larger = Buffer.alloc(capacity);
      larger.set(this.#bytes.subarray(0, offset));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#length = end;
    return offset;
  }

  /** Adds the bytes of `text` and gives their offset. */
  append(text: ByteString): number {
    const offset = this.reserve(text.length);
    this.#bytes.write(text, offset, "latin1");
    return offset;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

/** Byte strings of one section, each stored once, in the order of first use. The empty one is at 0. */
export class BytePool {
  readonly #section: string;
  readonly #bytes: GrowableBytes;
  readonly #offsets = new Map<ByteString, number>();

  constructor(section: string) {
    this.#section = section;
    this.#bytes = new GrowableBytes(section);
  }

  /** The offset of `text`, which is added if it is new. Throws LIMIT_EXCEEDED. */
  offsetOf(text: ByteString): number {
    if (text === "") return 0;
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    if (this.#offsets.size >= mapEntriesMax) {
      throw new SkimError(
        "LIMIT_EXCEEDED",
        `the archive's section ${this.#section} would hold more than ${mapEntriesMax} different strings, so this image cannot be indexed`,
      );
    }
    const offset = this.#bytes.append(text);
    this.#offsets.set(text, offset);
    return offset;
  }

  finish(): Uint8Array {
    return this.#bytes.finish();
  }
}
