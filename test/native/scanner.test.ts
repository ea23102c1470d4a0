import zlib from "node:zlib";
import { describe, expect, it, test } from "vitest";
import { Compression } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import {
  fixedHuffman,
  gzipMember,
  gzipMembers,
  layerBytes,
  randomBytes,
  skippableFrame,
  zstd,
  zstdFrames,
} from "./blobs.js";
import { decodeRun, type Scan, scan } from "./layer-scan.js";

const native = loadNative();
const data = layerBytes();
const corrupt = (about: RegExp) =>
  expect.objectContaining({ code: "LAYER_CORRUPT", message: expect.stringMatching(about) });

async function expectAllSpans(scanned: Scan): Promise<void> {
  for (const [number, span] of scanned.spans.entries()) {
    const bytes = (await decodeRun(scanned, number, number + 1)).at(-1);
    expect(bytes?.equals(scanned.stream.subarray(span.offset, span.offset + span.length))).toBe(true);
  }
}

describe("what follows the last gzip member", () => {
  const little = data.subarray(0, 20_000);
  const member = zlib.gzipSync(little);
  it.each([
    ["a zero", Buffer.alloc(1)],
    ["a tape block of zeros", Buffer.alloc(10_240)],
    ["text", Buffer.from("this is not gzip")],
    ["half a magic", Buffer.from([0x1f, 0x00, 0x8b])],
    ["zeros and then another member", Buffer.concat([Buffer.alloc(512), member])],
  ])("is hashed but not inflated: %s", async (_, tail) => {
    for (const pieceBytes of [1, 65536]) {
      const scanned = await scan("gzip", Buffer.concat([member, tail]), { pieceBytes });
      expect(scanned.stream.equals(little)).toBe(true);
      expect(scanned.trailingBytes).toBe(tail.length);
      expect(scanned.compressedBytes).toBe(member.length + tail.length);
      expect(scanned.spans.at(-1)!.compressedEnd).toBeLessThanOrEqual(member.length - 8);
    }
  });

  it.each([
    ["half a header", member.subarray(0, 5)],
    ["one byte of a header", member.subarray(0, 1)],
    ["half a member", member.subarray(0, 500)],
    ["a header of an unknown method", Buffer.from([0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 3, 3, 0])],
    ["a header with reserved flags", Buffer.from([0x1f, 0x8b, 8, 0x80, 0, 0, 0, 0, 0, 3, 3, 0])],
  ])("is refused where it begins like a member and is none: %s", async (_, tail) => {
    await expect(scan("gzip", Buffer.concat([member, tail]))).rejects.toEqual(corrupt(/near byte \d+/));
  });
});

test("a window that is complete before its span has a byte is nobody's: the span never comes to be", async () => {
  // A cut behind the flush, and then the member ends with an empty block.
  const flushed = await new Promise<Buffer>((resolve, reject) => {
    const gzip = zlib.createGzip();
    const pieces: Buffer[] = [];
    gzip.on("data", (piece: Buffer) => pieces.push(piece)).on("error", reject);
    gzip.on("end", () => resolve(Buffer.concat(pieces)));
    gzip.write(data.subarray(0, 70_000), () => gzip.flush(zlib.constants.Z_FULL_FLUSH, () => gzip.end()));
  });
  const members = [flushed, zlib.gzipSync(data.subarray(70_000, 100_000))];
  for (const blob of [flushed, Buffer.concat(members), Buffer.concat([flushed, ...members])]) {
    for (const pieceBytes of [1, 65536]) {
      const scanned = await scan("gzip", blob, { pieceBytes });
      for (const { record } of scanned.spans) {
        if (record[12] === 1) expect(record.subarray(32, 48).equals(Buffer.alloc(16))).toBe(true);
      }
      await expectAllSpans(scanned);
    }
  }
});

describe("a damaged layer", () => {
  const little = data.subarray(365_000, 435_000);
  const blobs = {
    gzip: Buffer.concat([zlib.gzipSync(little.subarray(0, 30_000)), zlib.gzipSync(little.subarray(30_000))]),
    zstd: Buffer.concat([zstd(little.subarray(0, 30_000)), skippableFrame(Buffer.alloc(20)), zstd(little)]),
  };
  const memberEnds = {
    gzip: [zlib.gzipSync(little.subarray(0, 30_000)).length],
    zstd: [zstd(little.subarray(0, 30_000)).length, zstd(little.subarray(0, 30_000)).length + 28],
  };

  it.each(["gzip", "zstd"] as const)("is refused wherever it ends early: %s", async (compression) => {
    const blob = blobs[compression];
    const ends = [...Array(60).keys(), blob.length - 1, blob.length - 5, blob.length - 9];
    for (let end = 60; end < blob.length; end += 97) ends.push(end);
    for (const end of memberEnds[compression]) ends.push(end - 1, end + 1, end + 3);
    for (const end of ends.filter((end) => !memberEnds[compression].includes(end))) {
      await expect(scan(compression, blob.subarray(0, end))).rejects.toEqual(corrupt(/ends early/));
    }
  });

  it("is refused for a wrong checksum or length in a gzip trailer", async () => {
    for (const at of [8, 4]) {
      const blob = Buffer.from(zlib.gzipSync(little));
      blob[blob.length - at]! ^= 1;
      await expect(scan("gzip", blob)).rejects.toEqual(corrupt(/incorrect (data|length) check/));
    }
  });

  it.each([
    ["data", 8],
    ["length", 4],
  ])(
    "is refused for the wrong %s check of the member that has it, whatever follows and however it comes",
    async (what, fromEnd) => {
      const members = [0, 1, 2].map((i) => zlib.gzipSync(data.subarray(i * 90_000, (i + 1) * 90_000)));
      members[1]![members[1]!.length - fromEnd]! ^= 1;
      // Inflating meets this one first, where it is ahead of the checksums.
      members[2]![members[2]!.length >> 1]! ^= 0xff;
      for (const pieceBytes of [1, 7, 65_536, 1 << 20]) {
        const refused = expect(scan("gzip", Buffer.concat(members), { pieceBytes })).rejects;
        await refused.toEqual(corrupt(new RegExp(`incorrect ${what} check`)));
      }
    },
  );

  it("is refused for a wrong checksum of a gzip header", async () => {
    const blob = gzipMember(little, fixedHuffman(little), { headerCrc: true, name: Buffer.from("n") });
    blob[10]! ^= 1;
    await expect(scan("gzip", blob)).rejects.toEqual(corrupt(/header crc mismatch/));
  });

  it("is refused for a wrong checksum of a zstd frame", async () => {
    const blob = Buffer.from(blobs.zstd);
    blob[blob.length - 1]! ^= 1;
    await expect(scan("zstd", blob)).rejects.toEqual(corrupt(/checksum/));
  });

  it("is refused where it is not of its compression at all", async () => {
    const text = Buffer.from("neither gzip nor zstd");
    await expect(scan("gzip", text)).rejects.toEqual(corrupt(/no gzip header/));
    await expect(scan("zstd", text)).rejects.toEqual(corrupt(/no zstd frame header/));
    await expect(scan("zstd", Buffer.concat([blobs.zstd, Buffer.alloc(100)]))).rejects.toEqual(
      corrupt(/no zstd frame header/),
    );
  });

  it("is refused for a zstd frame of a format from before 2016", async () => {
    const legacy = Buffer.concat([Buffer.from([0x27, 0xb5, 0x2f, 0xfd]), Buffer.alloc(100)]);
    await expect(scan("zstd", legacy)).rejects.toEqual(corrupt(/no zstd frame header/));
  });

  it("is refused for a zstd window of more than 128 MiB", async () => {
    // Frame header (RFC 8878, 3.1.1.1): no content size, window descriptor with exponent 18: 2^28 bytes; one raw block.
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 0x09, 0x00, 0x00, 0x41]);
    await expect(scan("zstd", frame)).rejects.toEqual(corrupt(/window of more than 128 MiB/));
    frame[5] = 17 << 3;
    expect((await scan("zstd", frame)).stream.toString()).toBe("A");
  });

  it("stays refused, and says the same again", async () => {
    const scanner = native.scannerOpen(Compression.gzip, 65536);
    native.scannerWrite(scanner, Buffer.from("no gzip"));
    const output = Buffer.alloc(10);
    await expect(native.scannerRead(scanner, output)).rejects.toEqual(corrupt(/no gzip header/));
    await expect(native.scannerRead(scanner, output)).rejects.toEqual(corrupt(/no gzip header/));
    await expect(native.scannerFinish(scanner)).rejects.toEqual(corrupt(/no gzip header/));
  });
});

describe("a layer without bytes", () => {
  it.each([
    ["none", Buffer.alloc(0)],
    ["gzip", zlib.gzipSync(Buffer.alloc(0))],
    ["gzip", gzipMembers(Buffer.alloc(0), 1).length === 0 ? zlib.gzipSync("") : Buffer.alloc(0)],
    ["zstd", zstd(Buffer.alloc(0))],
    ["zstd", skippableFrame(Buffer.from("only this"))],
  ] as const)("has no spans: %s", async (compression, blob) => {
    const scanned = await scan(compression, blob);
    expect(scanned.spans).toEqual([]);
    expect(scanned.uncompressedBytes).toBe(0);
    expect(scanned.compressedBytes).toBe(blob.length);
  });

  it.each(["gzip", "zstd"] as const)(
    "is an error where there is not even a header: %s",
    async (compression) => {
      await expect(scan(compression, Buffer.alloc(0))).rejects.toEqual(corrupt(/ends early/));
    },
  );
});

describe("spans", () => {
  it("are cut at four times their size where a deflate block does not end", async () => {
    // A single block of fixed codes: zlib writes such blocks only of limited length, this one has any.
    const blob = gzipMember(data, oneFixedBlock(data));
    const scanned = await scan("gzip", blob, { spanBytes: 32_768 });
    expect(scanned.spans.slice(0, -1).every((span) => span.length === 4 * 32_768)).toBe(true);
    expect(scanned.spans.map((span) => span.restart)).toEqual(
      scanned.spans.map((_, at) => (at === 0 ? 1 : 0)),
    );
    expect(scanned.stream.equals(data)).toBe(true);
    await expectAllSpans(scanned);
    for (const pieceBytes of [1000, 4093]) {
      const again = await scan("gzip", blob, { spanBytes: 32_768, pieceBytes, outputBytes: 777 });
      expect(Buffer.from(again.spanRecords).equals(Buffer.from(scanned.spanRecords))).toBe(true);
    }
  });

  it("without a restart point move to the next block if it begins where they do", async () => {
    const first = data.subarray(0, 4 * 32_768);
    const second = data.subarray(4 * 32_768, 300_000);
    const deflated = Buffer.concat([oneFixedBlock(first, false), zlib.deflateRawSync(second)]);
    const blob = gzipMember(Buffer.concat([first, second]), deflated);
    const scanned = await scan("gzip", blob, { spanBytes: 32_768 });
    expect(scanned.spans[1]!.offset).toBe(first.length);
    expect(scanned.spans[1]!.restart).toBe(2);
    await expectAllSpans(scanned);
  });

  it("begin at members only when they are long enough", async () => {
    const scanned = await scan("gzip", gzipMembers(data.subarray(0, 400_000), 5000), { spanBytes: 65_536 });
    expect(scanned.spans.map((span) => span.length)).toEqual([
      70_000, 70_000, 70_000, 70_000, 70_000, 50_000,
    ]);
    expect(scanned.spans.every((span) => span.restart === 1)).toBe(true);
    expect(scanned.windows.length).toBe(0);
  });

  it("begin at zstd frames, and nowhere else", async () => {
    const framed = await scan("zstd", zstdFrames(data.subarray(0, 400_000), 80_000), { spanBytes: 65_536 });
    expect(framed.spans.map((span) => [span.restart, span.length])).toEqual(Array(5).fill([1, 80_000]));
    const whole = await scan("zstd", zstd(data), { spanBytes: 65_536 });
    expect(whole.spans.filter((span) => span.restart !== 0).length).toBe(1);
  });

  it.each(["gzip", "zstd"] as const)(
    "are the same whatever little is left behind a full one: %s",
    async (compression) => {
      const full = 4 * 4096;
      for (const content of [Buffer.alloc(full + 5000, 7), data.subarray(850_000, 850_000 + full + 5000)]) {
        for (const more of [-1, 0, 1, 2, 3, 700, 5000]) {
          const bytes = content.subarray(0, full + more);
          const blob =
            compression === "gzip"
              ? gzipMember(bytes, oneFixedBlock(bytes))
              : zstd(bytes, "--no-check", "--no-content-size");
          const scanned = await scan(compression, blob, { spanBytes: 4096 });
          expect(scanned.stream.equals(bytes)).toBe(true);
          expect(scanned.spans.map((span) => span.length)).toEqual(more > 0 ? [full, more] : [full + more]);
          expect(scanned.spans.at(-1)!.compressedEnd).toBe(
            compression === "gzip" ? blob.length - 8 : blob.length,
          );
          await expectAllSpans(scanned);
          for (const pieceBytes of [blob.length < 1000 ? 1 : 89, 1000]) {
            const again = await scan(compression, blob, { spanBytes: 4096, pieceBytes, outputBytes: 5000 });
            expect(Buffer.from(again.spanRecords).equals(Buffer.from(scanned.spanRecords))).toBe(true);
          }
        }
      }
    },
  );

  it("of plain bytes have exactly their size", async () => {
    const scanned = await scan("none", data.subarray(0, 150_000), { spanBytes: 65_536 });
    expect(scanned.spans.map((span) => [span.restart, span.length, span.compressedStart])).toEqual([
      [1, 65_536, 0],
      [1, 65_536, 65_536],
      [1, 18_928, 131_072],
    ]);
  });
});

describe("windows", () => {
  it("hold the bytes before the span where it refers to them, and zeros elsewhere", async () => {
    const scanned = await scan("gzip", zlib.gzipSync(data, { level: 9 }));
    let kept = 0;
    let zeroed = 0;
    for (const span of scanned.spans.filter((span) => span.window.length > 0)) {
      const window = zlib.inflateRawSync(span.window);
      expect(window.length).toBe(span.windowLength);
      expect(window[0]).toBe(data[span.offset - window.length]);
      const before = data.subarray(span.offset - window.length, span.offset);
      for (const [at, byte] of window.entries()) {
        if (byte === before[at]) kept++;
        else if (byte === 0) zeroed++;
        else
          expect.fail(`byte ${at} of the window of the span at ${span.offset} is ${byte}, not ${before[at]}`);
      }
    }
    expect(kept).toBeGreaterThan(0);
    expect(zeroed).toBeGreaterThan(kept);
    await expectAllSpans(scanned);
  });

  it("are not stored where a span does not look back", async () => {
    const scanned = await scan("gzip", zlib.gzipSync(data, { strategy: zlib.constants.Z_HUFFMAN_ONLY }));
    expect(scanned.spans.some((span) => span.restart === 2)).toBe(true);
    expect(scanned.windows.length).toBe(0);
  });

  it("are exact for spans that are shorter than a window", async () => {
    const scanned = await scan("gzip", zlib.gzipSync(data.subarray(0, 300_000), { memLevel: 1 }), {
      spanBytes: 1024,
    });
    expect(scanned.spans.length).toBeGreaterThan(100);
    await expectAllSpans(scanned);
    const middle = await decodeRun(scanned, 50, 90);
    const { offset } =
      scanned.spans[scanned.spans.findLastIndex((span, at) => at <= 50 && span.restart !== 0)]!;
    const bytes = Buffer.concat(middle);
    expect(bytes.equals(data.subarray(offset, offset + bytes.length))).toBe(true);
  });
});

describe("a bomb", () => {
  it.each([
    ["gzip", zlib.gzipSync(Buffer.alloc(100_000_000))],
    ["zstd", zstd(Buffer.alloc(100_000_000))],
  ] as const)("is handed out in pieces and held in bounded memory: %s", async (compression, blob) => {
    const scanner = native.scannerOpen(Compression[compression], 1 << 20);
    const output = Buffer.alloc(65_536);
    native.scannerWrite(scanner, blob);
    const before = process.memoryUsage.rss();
    let made = 0;
    for (let length = 1; length > 0; made += length) length = await native.scannerRead(scanner, output);
    expect(made).toBe(100_000_000);
    expect(process.memoryUsage.rss() - before).toBeLessThan(48 << 20);
    expect((await native.scannerFinish(scanner)).spanRecords.length).toBeLessThan(100 * 80);
  });

  it("of empty blocks and members gives no spans", async () => {
    const emptyBlocks = Buffer.concat([
      ...Array(20_000).fill(Buffer.from([0, 0, 0, 0xff, 0xff])),
      fixedHuffman(Buffer.alloc(0)),
    ]);
    const members = Array(2000).fill(zlib.gzipSync(""));
    const blob = Buffer.concat([gzipMember(Buffer.alloc(0), emptyBlocks), ...members, zlib.gzipSync("end")]);
    const scanned = await scan("gzip", blob);
    expect(scanned.spans.length).toBe(1);
    expect(scanned.spans[0]!.compressedStart).toBe(blob.length - zlib.gzipSync("end").length);
    await expectAllSpans(scanned);
  });

  it("of empty blocks behind a checkpoint is followed to its end", async () => {
    const random = randomBytes(5000, 3);
    const emptyBlocks = Buffer.concat(Array(50_000).fill(Buffer.from([0, 0, 0, 0xff, 0xff])));
    const stored = (bytes: Buffer) => {
      const header = Buffer.from([0, 0, 0, 0, 0]);
      header.writeUInt16LE(bytes.length, 1);
      header.writeUInt16LE(0xffff - bytes.length, 3);
      return Buffer.concat([header, bytes]);
    };
    const deflated = Buffer.concat([stored(random), emptyBlocks, stored(random), fixedHuffman(random)]);
    const scanned = await scan("gzip", gzipMember(Buffer.concat([random, random, random]), deflated), {
      spanBytes: 4096,
    });
    expect(scanned.spans.length).toBe(3);
    await expectAllSpans(scanned);
  });
});

/** Raw deflate of `bytes` as one block of fixed codes, literals only, with the codes of RFC 1951, 3.2.6. */
function oneFixedBlock(bytes: Buffer, last = true): Buffer {
  const out: number[] = [];
  let held = 0;
  let heldBits = 0;
  const put = (value: number, bits: number) => {
    held |= value << heldBits;
    heldBits += bits;
    for (; heldBits >= 8; heldBits -= 8, held >>>= 8) out.push(held & 255);
  };
  const putCode = (code: number, bits: number) => {
    for (let bit = bits - 1; bit >= 0; bit--) put((code >> bit) & 1, 1);
  };
  put(last ? 1 : 0, 1);
  put(1, 2);
  for (const byte of bytes) byte < 144 ? putCode(0x30 + byte, 8) : putCode(0x190 + byte - 144, 9);
  putCode(0, 7);
  // The next block would begin at the next bit: an empty stored block brings it to a byte.
  if (!last) {
    put(0, 3);
    if (heldBits > 0) put(0, 8 - heldBits);
    out.push(0, 0, 0xff, 0xff);
  } else if (heldBits > 0) put(0, 8 - heldBits);
  return Buffer.from(out);
}
