import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { isSkimError } from "../../src/base/errors.js";
import { placeOf, reseal, type SectionLabel } from "./archive-bytes.js";
import { good } from "./broken-archive.js";
import { walkArchive } from "./walk-archive.js";

describe("random changes with right CRCs", () => {
  /** mulberry32: the same numbers for the same seed. */
  const random = (seed: number) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  const records: SectionLabel[] = [
    "layers",
    "spans",
    "inodes",
    "dirents",
    "names",
    "extents",
    "xattrs",
    "xattrValues",
    "startSpans",
  ];
  const telling = [
    0, 1, 2, 3, 4, 7, 8, 64, 255, 256, 4095, 4096, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
  ];

  it("are refused, or give an archive that can be walked to its end", () => {
    const seed = Number(process.env.SKIM_TEST_SEED ?? Date.now() % 2 ** 31);
    const next = random(seed);
    let taken = 0;
    for (let round = 0; round < 20_000; round++) {
      const archive = Buffer.from(good);
      for (let changes = 1 + (next() % 3); changes > 0; changes--) {
        const { offset, length } = placeOf(archive, records[next() % records.length]!);
        const width = [1, 2, 4, 8][next() % 4]!;
        const where = offset + Math.floor((next() % Math.max(length - width, 1)) / width) * width;
        const value = next() % 2 === 0 ? telling[next() % telling.length]! : next() % 40;
        if (width === 8) archive.writeBigUInt64LE(BigInt(value) << (next() % 4 === 0 ? 32n : 0n), where);
        else archive.writeUIntLE(value % 2 ** (8 * width), where, width);
      }
      reseal(archive);
      try {
        let opened: ReturnType<typeof decodeArchive>;
        try {
          opened = decodeArchive(archive, "random");
        } catch (error) {
          if (isSkimError(error, "ARCHIVE_DAMAGED")) continue;
          throw error;
        }
        walkArchive(opened);
        taken++;
      } catch (cause) {
        throw new Error(`seed ${seed}, round ${round}`, { cause });
      }
    }
    // Uids, modes and times may be anything: a reader that refuses all changes is no test of the walk.
    expect(taken, `seed ${seed}`).toBeGreaterThan(500);
    expect(taken, `seed ${seed}`).toBeLessThan(15_000);
  }, 180_000);
});
