/** Requests as a kernel sends them, as another program with the descriptor could, and as nobody would. */
import {
  batchForgetBody,
  decodeRequestHeader,
  encodeRequest,
  forgetBody,
  initBody,
  interruptBody,
  listxattrBody,
  lookupBody,
  opcodes,
  readBody,
  requestHeaderBytes,
} from "../support/fuse-protocol.js";
import { mutated } from "../support/mutator.js";
import type { Sections } from "./fuse-trees.js";
import type { Random } from "./random.js";

/** A socket takes packets of about 200 KB; a READ that may succeed stays below with its reply. */
const readBytesMax = 128 * 1024;
/** A READ for more is refused by the server whatever the file is. */
const refusedReadBytes = 64 * 1024 * 1024;

/** Several times where one is asked for often. */
const usualOpcodes = [
  ...Array<number>(8).fill(opcodes.read),
  ...Array<number>(3).fill(opcodes.lookup),
  ...Array<number>(2).fill(opcodes.interrupt),
  opcodes.getattr,
  opcodes.readlink,
  opcodes.readdir,
  opcodes.readdirplus,
  opcodes.readdirplus,
  opcodes.statfs,
  opcodes.getxattr,
  opcodes.listxattr,
  opcodes.init,
  opcodes.forget,
  opcodes.batchForget,
];
const strangeOpcodes = [
  0, 7, 19, 53, 60, 61, 63, 64, 65, 4096, 1_048_576, 436_207_616, 0x7fffffff, 0xffffffff,
];

/** Makes requests for a tree; uniques are two apart, as the kernel's. */
export class RequestMaker {
  readonly #random: Random;
  readonly #inodeCount: number;
  readonly #names: readonly Buffer[];
  /** Inodes that most of a session is about: the root, large files, those with attributes. */
  readonly #telling: readonly bigint[];
  readonly #firstUnique: bigint;
  #made = 0;

  constructor(random: Random, sections: Sections) {
    this.#random = random;
    this.#inodeCount = Math.floor(sections.inodes.length / 64);
    this.#names = namesOf(sections);
    this.#telling = tellingInodes(sections);
    this.#firstUnique = random.pick([2n, 2n ** 32n - 20n, 2n ** 63n, 2n ** 64n - 2000n]);
  }

  next(): Buffer {
    const random = this.#random;
    const unique = this.#firstUnique + BigInt(2 * this.#made++);
    const turn = random.below(20);
    const opcode =
      turn === 0 ? random.pick(strangeOpcodes) : turn < 4 ? random.below(61) : random.pick(usualOpcodes);
    let body = this.#body(opcode);
    if (random.oneIn(10)) body = mutated(body, random.below);
    if (random.oneIn(60)) body = Buffer.concat([body, random.bytes(random.pick([1, 4096, 17_000]))]);
    const length = requestHeaderBytes + body.length;
    const said = random.oneIn(25)
      ? random.pick([0, 39, 40, length - 1, length + 1, 0x7fffffff, 0xffffffff])
      : length;
    const fields = { length: said, pid: random.oneIn(10) ? random.u32() : 1 };
    const request = encodeRequest(opcode, unique, this.#nodeid(), body, fields);
    if (random.oneIn(60)) return request.subarray(0, random.between(1, requestHeaderBytes - 1));
    return tamed(request);
  }

  #nodeid(): bigint {
    const random = this.#random;
    if (random.oneIn(3)) return random.pick(this.#telling);
    if (!random.oneIn(6)) return BigInt(random.between(1, Math.max(1, this.#inodeCount)));
    const inodes = BigInt(this.#inodeCount);
    return random.pick([
      0n,
      inodes + 1n,
      2n ** 32n,
      2n ** 32n + 1n,
      2n ** 63n,
      2n ** 63n + 1n,
      2n ** 64n - 1n,
    ]);
  }

  #body(opcode: number): Buffer {
    const random = this.#random;
    switch (opcode) {
      case opcodes.lookup:
        return this.#name();
      case opcodes.getxattr:
        return Buffer.concat([listxattrBody(this.#bytes()), this.#name()]);
      case opcodes.listxattr:
        return listxattrBody(this.#bytes());
      case opcodes.read:
        return readBody(this.#offset(), this.#bytes());
      case opcodes.readdir:
      case opcodes.readdirplus:
        return readBody(random.oneIn(2) ? BigInt(random.below(400)) : this.#offset(), this.#bytes());
      case opcodes.interrupt:
        return interruptBody(this.#knownUnique());
      case opcodes.forget:
        return forgetBody(random.u64());
      case opcodes.batchForget: {
        const nodes = Array.from({ length: random.below(20) }, () => [this.#nodeid(), random.u64()] as const);
        return batchForgetBody(nodes, random.oneIn(2) ? nodes.length : random.telling());
      }
      case opcodes.init: {
        const fields = {
          major: random.pick([7, 7, 7, 6, 8, 0xffffffff]),
          minor: random.pick([45, 38, 31, 30, 0, 0xffffffff]),
          maxReadahead: random.telling(),
          flags: random.u64(),
        };
        return initBody(fields).subarray(0, random.pick([64, 16, 15, 40, 0]));
      }
      default:
        return random.bytes(random.pick([0, 8, 16, 24, 40, 64, 100]));
    }
  }

  /** Of a request before, or of one that comes soon, or of none. */
  #knownUnique(): bigint {
    const random = this.#random;
    if (random.oneIn(6)) return random.u64();
    return this.#firstUnique + BigInt(2 * random.below(this.#made + 4));
  }

  #name(): Buffer {
    const random = this.#random;
    const known = this.#names.length > 0 ? random.pick(this.#names) : Buffer.from("a");
    switch (random.below(16)) {
      case 0:
        return known;
      case 1:
        return lookupBody(Buffer.concat([known, Buffer.alloc(1), known]));
      case 2:
        return lookupBody("");
      case 3:
        return Buffer.alloc(0);
      case 4:
        return lookupBody(Buffer.alloc(random.pick([254, 255, 256, 4095, 4096]), "n"));
      case 5:
        return lookupBody(random.bytes(random.below(30)));
      case 6:
        return lookupBody(random.pick([".", "..", "/", "%s%n", "\n"]));
      default:
        return lookupBody(known);
    }
  }

  #offset(): bigint {
    const random = this.#random;
    if (!random.oneIn(6)) return BigInt(random.below(random.pick([10, 1200, 130_000])));
    const ends = [2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 62n, 2n ** 63n, 2n ** 64n - 4n];
    return random.pick(ends) + BigInt(random.below(4)) - 2n;
  }

  #bytes(): number {
    const random = this.#random;
    if (random.oneIn(8)) return random.telling();
    return random.below(random.pick([8, 300, 5000, 70_000, readBytesMax]));
  }
}

/** A READ whose reply no socket would take becomes one that asks for less. */
function tamed(request: Buffer): Buffer {
  const sizeAt = requestHeaderBytes + 16;
  if (request.length < sizeAt + 4 || decodeRequestHeader(request).opcode !== opcodes.read) return request;
  const bytes = request.readUInt32LE(sizeAt);
  if (bytes > readBytesMax && bytes <= refusedReadBytes) request.writeUInt32LE(bytes % readBytesMax, sizeAt);
  return request;
}

function tellingInodes({ inodes }: Sections): bigint[] {
  const records = Buffer.from(inodes);
  const found = [1n];
  for (let at = 0; at + 64 <= records.length && found.length < 40; at += 64)
    if (records.readBigUInt64LE(at + 16) > 100n || records.readUInt32LE(at + 60) > 0)
      found.push(BigInt(at / 64 + 1));
  return found;
}

/** Names of directories and xattrs, wherever their records lead within the section. */
function namesOf({ dirents, xattrs, names }: Sections): Buffer[] {
  const found: Buffer[] = [];
  const collect = (section: Uint8Array, recordBytes: number, at: number) => {
    const records = Buffer.from(section);
    for (let record = 0; record + recordBytes <= records.length; record += recordBytes) {
      const offset = records.readUInt32LE(record + at);
      const length = records.readUInt16LE(record + at + 4);
      if (offset + length <= names.length) found.push(Buffer.from(names.subarray(offset, offset + length)));
    }
  };
  collect(dirents, 12, 4);
  collect(xattrs, 16, 0);
  return found.slice(0, 400);
}
