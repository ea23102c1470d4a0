import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { archivePieces, encodeArchive, withStartSpans } from "../../src/archive/archive-writer.js";
import { describeArchive } from "../../src/archive/inspect-archive.js";
import { rawSections, withSections } from "./archive-bytes.js";
import { field, good, itRefuses, longer } from "./broken-archive.js";
import { encoded, sampleContents } from "./sample-archive.js";

const entry = (record: number, value: number) => field("startSpans", 4, record, 0, 4, value);

describe("a start set", () => {
  it("is read in the order in which it was written", () => {
    expect(Array.from(decodeArchive(good, "good").startSpans!)).toEqual([3, 0, 2]);
  });

  it("may be missing, which is not the same as empty", () => {
    expect(decodeArchive(encoded(sampleContents()), "none").startSpans).toBeUndefined();
    expect(decodeArchive(encoded(sampleContents(), []), "empty").startSpans).toHaveLength(0);
  });

  it("changes no other section, and is a section that a reader may ignore", () => {
    const without = rawSections(encoded(sampleContents()));
    const sections = rawSections(good);
    expect(sections.slice(0, -1)).toEqual(without);
    expect(sections.at(-1)).toMatchObject({ type: 64, flags: 0, recordBytes: 4 });
    expect([...sections.at(-1)!.bytes]).toEqual([3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
  });

  it("is put to an archive that is encoded once", () => {
    const archive = encodeArchive(sampleContents());
    const pieces = Buffer.concat(archivePieces(withStartSpans(archive, [3, 0, 2])));
    expect(pieces.equals(good)).toBe(true);
  });

  it("is described by its number of spans and their bytes", () => {
    expect(describeArchive(decodeArchive(good, "good")).startSet).toEqual({
      spans: 3,
      // 300 of the plain layer; of the gzip layer 300, and 290 behind the window.
      compressedBytes: 300 + 300 + 290,
      uncompressedBytes: 300 + 400 + 300,
    });
    expect(describeArchive(decodeArchive(encoded(sampleContents()), "none")).startSet).toBeUndefined();
  });

  itRefuses([
    ["a span behind the last", /startSpans record 1: span is 5 of 5/, entry(1, 5)],
    ["a span far behind the last", /startSpans record 0: span is 4294967295 of 5/, entry(0, 0xffffffff)],
    ["a span that is there twice", /startSpans record 2: span 3 is there twice/, entry(2, 3)],
    ["more spans than there are", /startSpans: it names 6 spans of 5/, longer("startSpans", 12)],
    [
      "part of a record",
      /section table record 12: length 6 is no multiple of the record size 4/,
      (archive) => withSections(archive, { startSpans: Buffer.alloc(6) }),
    ],
  ]);
});
