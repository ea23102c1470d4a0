import type { ByteString } from "../base/byte-string.js";
import type { Xattr } from "../layer/layer-index.js";

/** What is set of a file when it is there. */
export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly xattrs: readonly Xattr[];
}

/** `length` bytes from `sourceOffset` of a source of the tree writer belong at `fileOffset`. */
export interface SourceRange {
  readonly fileOffset: number;
  /** The position among the writer's sources, or what `stagedSource` gives. */
  readonly source: number;
  readonly sourceOffset: number;
  readonly length: number;
}

/** The staged file `number` as a source, which stays staged. */
export function stagedSource(number: number): number {
  return 0x80000000 + number;
}

const Instruction = {
  enter: 1,
  directory: 2,
  file: 3,
  staged: 4,
  symlink: 5,
  special: 6,
  link: 7,
  finish: 8,
} as const;

/** The file type bits of st_mode. */
const typeBits = { fifo: 0o010000, character: 0o020000, block: 0o060000 } as const;

/** Writes instructions for a tree writer; native/unpack/instructions.h has their form. */
export class InstructionList {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #length = 0;

  get bytes(): number {
    return this.#length;
  }

  /** What was written, and an empty list again. */
  take(): Uint8Array {
    const taken = this.#buffer.subarray(0, this.#length);
    this.#buffer = Buffer.allocUnsafe(64 * 1024);
    this.#length = 0;
    return taken;
  }

  enter(path: ByteString): void {
    this.#begin(Instruction.enter);
    this.#text(path);
  }

  directory(name: ByteString): void {
    this.#begin(Instruction.directory);
    this.#text(name);
  }

  file(name: ByteString, attributes: Attributes, bytes: number, ranges: readonly SourceRange[]): void {
    this.#begin(Instruction.file);
    this.#text(name);
    this.#attributes(attributes);
    this.#u64(bytes);
    this.#u32(ranges.length);
    for (const { fileOffset, source, sourceOffset, length } of ranges) {
      this.#u64(fileOffset);
      this.#u32(source);
      this.#u64(sourceOffset);
      this.#u64(length);
    }
  }

  staged(name: ByteString, attributes: Attributes, bytes: number, number: number): void {
    this.#begin(Instruction.staged);
    this.#text(name);
    this.#attributes(attributes);
    this.#u64(bytes);
    this.#u32(number);
  }

  symlink(name: ByteString, attributes: Attributes, target: ByteString): void {
    this.#begin(Instruction.symlink);
    this.#text(name);
    this.#attributes(attributes);
    this.#text(target);
  }

  special(
    name: ByteString,
    attributes: Attributes,
    type: keyof typeof typeBits,
    device: { readonly deviceMajor: number; readonly deviceMinor: number },
  ): void {
    this.#begin(Instruction.special);
    this.#text(name);
    this.#attributes(attributes);
    this.#u32(typeBits[type]);
    this.#u32(device.deviceMajor);
    this.#u32(device.deviceMinor);
  }

  link(name: ByteString, target: ByteString): void {
    this.#begin(Instruction.link);
    this.#text(name);
    this.#text(target);
  }

  finish(attributes: Attributes): void {
    this.#begin(Instruction.finish);
    this.#attributes(attributes);
  }

  #attributes({ mode, uid, gid, mtimeSec, mtimeNsec, xattrs }: Attributes): void {
    this.#u32(mode);
    this.#u32(uid);
    this.#u32(gid);
    this.#reserve(8);
    this.#buffer.writeBigInt64LE(BigInt(mtimeSec), this.#length);
    this.#length += 8;
    this.#u32(mtimeNsec);
    this.#u32(xattrs.length);
    for (const { name, value } of xattrs) {
      this.#text(name);
      this.#text(value);
    }
  }

  #begin(instruction: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = instruction;
  }

  #text(text: ByteString): void {
    this.#u32(text.length);
    this.#reserve(text.length);
    this.#length += this.#buffer.write(text, this.#length, "latin1");
  }

  #u32(value: number): void {
    this.#reserve(4);
    this.#length = this.#buffer.writeUInt32LE(value, this.#length);
  }

  #u64(value: number): void {
    this.#reserve(8);
    // Safe integers have 53 bits.
    this.#buffer.writeUInt32LE(value % 2 ** 32, this.#length);
    this.#length = this.#buffer.writeUInt32LE(Math.floor(value / 2 ** 32), this.#length + 4);
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}
