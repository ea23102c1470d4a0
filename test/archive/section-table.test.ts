import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import {
  joined,
  placeOf,
  rawSections,
  resealHeader,
  type SectionLabel,
  sectionLabels,
  tableEntryAt,
} from "./archive-bytes.js";
import { expectDamaged, good, type Mutation, refusalOfBytes } from "./broken-archive.js";
import { walkArchive } from "./walk-archive.js";

describe("other versions", () => {
  it.each([
    [1, /version 1; this skim reads version 2: index the image again/],
    [3, /version 3; this skim reads version 2: upgrade skim/],
    [0xffffffff, /upgrade skim/],
  ])("version %i is refused before anything else is looked at", (version, message) => {
    const other = Buffer.alloc(good.length, 0xff);
    good.copy(other, 0, 0, 8);
    other.writeUInt32LE(version, 8);
    expect(refusalOfBytes(other)).toMatchObject({
      code: "ARCHIVE_VERSION",
      message: expect.stringMatching(message),
    });
  });

  it("a section that must be known and is not asks for an upgrade; one that may be ignored is", () => {
    const extra = { type: 66, recordBytes: 1, bytes: Buffer.from("profile") };
    const optional = joined([...rawSections(good), { ...extra, flags: 0 }]);
    const archive = decodeArchive(optional, "optional");
    expect(walkArchive(archive)).toHaveLength(15);
    expect(archive.sections.map(({ name }) => name)).toEqual(sectionLabels);
    optional[optional.length - 64]! ^= 1;
    expectDamaged(optional, /type 66: the section's CRC is wrong/);
    const required = joined([...rawSections(good), { ...extra, flags: 1 }]);
    expect(refusalOfBytes(required)).toMatchObject({
      code: "ARCHIVE_VERSION",
      message: expect.stringMatching(/type 66.*upgrade skim/),
    });
  });
});

const header: Mutation[] = [
  ["no sections", /header: sectionCount is 0/, (a) => a.writeUInt32LE(0, 12)],
  ["65 sections", /header: sectionCount is 65/, (a) => a.writeUInt32LE(65, 12)],
  ["4 billion sections", /header: sectionCount is 4294967295/, (a) => a.writeUInt32LE(0xffffffff, 12)],
  ["reserved bytes at the start", /header: reserved/, (a) => a.writeUInt8(1, 28)],
  ["reserved bytes at the end", /header: reserved/, (a) => a.writeUInt8(1, 63)],
  ["fileBytes too small", /header: the file has/, (a) => a.writeBigUInt64LE(BigInt(a.length - 64), 16)],
  ["fileBytes beyond 2^53", /header: the file has/, (a) => a.writeBigUInt64LE(2n ** 64n - 1n, 16)],
  [
    "a CRC that is not the header's",
    /header: the CRC of header/,
    (a) => {
      a.writeUInt32LE((a.readUInt32LE(24) ^ 1) >>> 0, 24);
      return a;
    },
  ],
];

const entry = (section: SectionLabel, field: number, bytes: 4 | 8, value: bigint) => (archive: Buffer) => {
  if (bytes === 4) archive.writeUInt32LE(Number(value), tableEntryAt(section) + field);
  else archive.writeBigUInt64LE(value, tableEntryAt(section) + field);
};
const table: Mutation[] = [
  ["types out of order", /section table record 1: type 1 follows type 1/, entry("manifest", 0, 4, 1n)],
  ["type 0", /section table record 0: type 0/, entry("identity", 0, 4, 0n)],
  ["reserved flags", /record 6: flags are 3/, entry("inodes", 4, 4, 3n)],
  ["a required section as optional", /record 6: section inodes is not flagged/, entry("inodes", 4, 4, 0n)],
  [
    "an optional section as required",
    /record 12: section startSpans is flagged/,
    entry("startSpans", 4, 4, 1n),
  ],
  [
    "an offset that is not aligned",
    /record 6: offset is \d+, but the section must start/,
    (a) => entry("inodes", 8, 8, BigInt(placeOf(a, "inodes").offset + 1))(a),
  ],
  [
    "sections that overlap",
    /record 6: offset/,
    (a) => entry("inodes", 8, 8, BigInt(placeOf(a, "inodes").offset - 64))(a),
  ],
  ["an offset beyond the end", /record 6: offset/, entry("inodes", 8, 8, 2n ** 40n)],
  [
    "a length beyond the end",
    /record 6: offset \d+ and length 4294967232 reach beyond/,
    entry("inodes", 16, 8, 2n ** 32n - 64n),
  ],
  ["a length of 4 GiB", /record 6: length 4294967296 is not below 4 GiB/, entry("inodes", 16, 8, 2n ** 32n)],
  ["a length beyond 2^53", /record 6: length .* is not below 4 GiB/, entry("inodes", 16, 8, 2n ** 64n - 1n)],
  [
    "a length that is no multiple of the record",
    /record 6: length \d+ is no multiple/,
    (a) => entry("inodes", 16, 8, BigInt(placeOf(a, "inodes").length - 1))(a),
  ],
  [
    "records of another size",
    /record 6: records of inodes have 32 bytes, not 64/,
    entry("inodes", 24, 4, 32n),
  ],
  ["records of no size", /record 0: records of identity have 0 bytes/, entry("identity", 24, 4, 0n)],
  [
    "a section that is missing",
    /there is no section xattrValues/,
    (a) => joined(rawSections(a).filter(({ type }) => type !== 12)),
  ],
  [
    "a section in the middle that is missing",
    /there is no section windows/,
    (a) => joined(rawSections(a).filter(({ type }) => type !== 6)),
  ],
  [
    "an unknown section without a record size",
    /record 13: length 1 is no multiple of the record size 0/,
    (a) => joined([...rawSections(a), { type: 66, flags: 0, recordBytes: 0, bytes: Buffer.alloc(1) }]),
  ],
];

describe("a header or table with right CRCs", () => {
  it.each([...header, ...table])("%s", (_rule, message, mutate) => {
    const archive = Buffer.from(good);
    const changed = mutate(archive);
    expectDamaged(Buffer.isBuffer(changed) ? changed : resealHeader(archive), message);
  });

  it.each(["header", "identity", "windows", "xattrValues", "startSpans"] as const)(
    "padding behind %s that is not zero",
    (place) => {
      const archive = Buffer.from(good);
      const { offset, length } =
        place === "header" ? { offset: 0, length: 64 + 13 * 32 } : placeOf(good, place);
      expect((offset + length) % 64).not.toBe(0);
      archive[offset + length] = 1;
      expectDamaged(
        archive,
        place === "header" ? /section table: the padding/ : new RegExp(`${place}: the padding`),
      );
    },
  );
});
