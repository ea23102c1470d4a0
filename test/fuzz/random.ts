import { randomIntegers } from "../native/blobs.js";

/** Choices that are the same for the same seed. */
export class Random {
  /** A whole number from 0 up to, and without, `below` (0 where that leaves none). As the mutator takes it. */
  readonly below: (below: number) => number;

  constructor(seed: number) {
    const next = randomIntegers(seed);
    this.below = (below) => next(Math.max(1, Math.floor(below)));
  }

  /** For step `step` of fuzzer `name`: each step has its own numbers, so that one can be run again without those before it. */
  static ofStep(seed: number, name: string, step: number): Random {
    let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b);
    for (const part of [...Buffer.from(name), step])
      mixed = Math.imul(mixed ^ part, 0xc2b2ae35) ^ (mixed >>> 15);
    return new Random(mixed);
  }

  /** True once in `turns` on average. */
  oneIn(turns: number): boolean {
    return this.below(turns) === 0;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }

  u32(): number {
    return this.below(2 ** 32);
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** From `low` to `high`, both in. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let at = 0; at < length; at++) bytes[at] = this.below(256);
    return bytes;
  }

  /** Numbers at which something ends, or wraps around. */
  telling(): number {
    return this.pick(tellingNumbers);
  }
}

const tellingNumbers = [
  0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 255, 256, 4095, 4096, 32768, 65535, 65536, 0x7fffffff, 0x80000000,
  0xfffffffe, 0xffffffff,
];
