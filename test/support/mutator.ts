/** Gives a whole number from 0 up to, and without, `below`. */
export type RandomIntegers = (below: number) => number;

/** A copy with one to three small changes: bits, bytes, a cut, bytes taken out, put in, or overwritten by zeros or ones. */
export function mutated(bytes: Buffer, random: RandomIntegers): Buffer {
  let copy = Buffer.from(bytes);
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const at = random(Math.max(1, copy.length));
    switch (copy.length === 0 ? 4 : random(6)) {
      case 0:
        copy[at]! ^= 1 << random(8);
        break;
      case 1:
        copy[at] = random(256);
        break;
      case 2:
        copy = copy.subarray(0, at);
        break;
      case 3:
        copy = Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random(20))]);
        break;
      case 4:
        copy = Buffer.concat([
          copy.subarray(0, at),
          Buffer.alloc(1 + random(20), random(256)),
          copy.subarray(at),
        ]);
        break;
      default:
        copy.fill([0, 0xff][random(2)]!, at, Math.min(copy.length, at + 1 + random(8)));
    }
  }
  return copy;
}
