import { open } from "node:fs/promises";
import path from "node:path";
import { setFlagsFromString } from "node:v8";
import vm from "node:vm";
import zlib from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { type CacheHandle, Compression, type CompressionName } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { gzipMembers, layerBytes, zstdFrames } from "./blobs.js";
import { decode, decodeRun, type Scan, type Span, scan } from "./layer-scan.js";

const native = loadNative();
setFlagsFromString("--expose-gc");
const collectGarbage = vm.runInNewContext("gc") as () => void;
const layer = layerBytes();
const data = layer;
let gzip: Scan;

beforeAll(async () => {
  gzip = await scan("gzip", zlib.gzipSync(data));
});

const failure = (code: string, about = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(about) });
const compressedOf = (scanned: Scan, span: Span) =>
  scanned.blob.subarray(span.compressedStart, span.compressedEnd);

/** Span 2 of `gzip`, which restarts at a block and has a window, with a change to its record. */
function changed(change: (record: Buffer) => void): Buffer {
  const record = Buffer.from(gzip.spans[2]!.record);
  change(record);
  return record;
}

const decodeChanged = (change: (record: Buffer) => void, window = gzip.spans[2]!.window) =>
  decode("gzip", changed(change), window, compressedOf(gzip, gzip.spans[2]!));

describe("a decoder", () => {
  it("hands a span out as soon as its last byte is there", async () => {
    const spans = gzip.spans.slice(2, 5);
    const records = Buffer.concat(spans.map((span) => span.record));
    const decoder = native.decoderOpen(Compression.gzip, records, spans[0]!.window);
    for (const [number, span] of spans.entries()) {
      const from = number === 0 ? span.compressedStart : spans[number - 1]!.compressedEnd;
      native.decoderWrite(decoder, gzip.blob.subarray(from, span.compressedEnd));
      const bytes = await native.decoderNext(decoder);
      expect(Buffer.from(bytes!).equals(data.subarray(span.offset, span.offset + span.length))).toBe(true);
      expect(await native.decoderNext(decoder)).toBe(null);
    }
    expect(await native.decoderNext(decoder)).toBe(null);
  });

  it.each([1, 700, 65536])(
    "keeps pieces of %i bytes as long as it needs them, and no longer",
    async (pieceBytes) => {
      const spans = gzip.spans.slice(2, 5);
      const records = Buffer.concat(spans.map((span) => span.record));
      const decoder = native.decoderOpen(Compression.gzip, records, spans[0]!.window);
      // Each with memory that goes with it.
      const pieces: WeakRef<ArrayBufferLike>[] = [];
      const write = (from: number, to: number) => {
        for (let at = from; at < to; at += pieceBytes) {
          const piece = Uint8Array.from(gzip.blob.subarray(at, Math.min(at + pieceBytes, to)));
          pieces.push(new WeakRef(piece.buffer));
          native.decoderWrite(decoder, piece);
        }
      };
      const held = async () => {
        // Weak references live until their turn of the event loop is over.
        await new Promise((resolve) => setImmediate(resolve));
        collectGarbage();
        return pieces.flatMap((piece, number) => (piece.deref() ? [number] : []));
      };
      for (const [number, span] of spans.entries()) {
        const from = number === 0 ? span.compressedStart : spans[number - 1]!.compressedEnd;
        write(from, span.compressedEnd - 1);
        expect(await native.decoderNext(decoder)).toBe(null);
        await held();
        write(span.compressedEnd - 1, span.compressedEnd);
        const bytes = await native.decoderNext(decoder);
        expect(Buffer.from(bytes!).equals(data.subarray(span.offset, span.offset + span.length))).toBe(true);
        // The last byte may be the first of the next span.
        const isLast = number === spans.length - 1;
        expect(await held()).toEqual(isLast ? [] : [pieces.length - 1]);
      }
      // Nobody wants it.
      write(spans[0]!.compressedStart, spans[0]!.compressedStart + 1);
      expect(await held()).toEqual([]);
    },
  );

  it("takes nothing for inflated that memory held from before", async () => {
    const span = gzip.spans[2]!;
    const otherDigest = changed((record) => {
      record[record.length - 1]! ^= 1;
    });
    const otherBytes = Buffer.alloc(span.compressedEnd - span.compressedStart, "x");
    for (let round = 0; round < 50; round++) {
      // Inflates the right bytes, and frees the memory at once, so that the next takes its place.
      await expect(decode("gzip", otherDigest, span.window, compressedOf(gzip, span))).rejects.toEqual(
        failure("SPAN_DIGEST"),
      );
      await expect(decode("gzip", span.record, span.window, otherBytes)).rejects.toEqual(
        failure("SPAN_CORRUPT"),
      );
    }
  });

  it("writes spans to the cache, where they count as verified, and gives them only to who wants them", async () => {
    const dir = await makeTempDir("decoder");
    const first = gzip.spans[2]!;
    const spans = gzip.spans.slice(2, 5);
    const records = Buffer.concat(spans.map((span) => span.record));
    const data = await open(path.join(dir, "data"), "w+");
    const map = await open(path.join(dir, "map"), "w+");
    const unwritable = await open("/dev/null");
    try {
      const decodeAll = async (cache: CacheHandle, keep: boolean) => {
        const decoder = native.decoderOpen(Compression.gzip, records, first.window);
        native.decoderWrite(decoder, gzip.blob.subarray(first.compressedStart, spans[2]!.compressedEnd));
        const results = [];
        for (const span of spans.keys())
          results.push(await native.decoderNextStored(decoder, cache, span, keep));
        expect(await native.decoderNext(decoder)).toBe(null);
        return results;
      };
      const cache = native.cacheOpen(data.fd, map.fd, records);
      expect(await decodeAll(cache, false)).toEqual([true, true, true]);
      expect([...native.cacheVerified(cache)]).toEqual([1, 1, 1]);
      for (const [number, span] of spans.entries()) {
        const truth = layer.subarray(span.offset, span.offset + span.length);
        const stored = Buffer.alloc(span.length);
        await data.read(stored, 0, span.length, span.offset);
        expect(stored.equals(truth)).toBe(true);
        const present = Buffer.alloc(1);
        await map.read(present, 0, 1, 64 + number);
        expect(present[0]).toBe(1);
      }
      const kept = native.cacheOpen(data.fd, map.fd, records);
      expect((await decodeAll(kept, true)).map((bytes) => (bytes as Uint8Array).length)).toEqual(
        spans.map(({ length }) => length),
      );
      expect([...native.cacheVerified(kept)]).toEqual([1, 1, 1]);
      // A disk that does not take it: the bytes are all there is.
      const failing = native.cacheOpen(unwritable.fd, map.fd, records);
      expect((await decodeAll(failing, false)).every((bytes) => bytes instanceof Uint8Array)).toBe(true);
      expect([...native.cacheVerified(failing)]).toEqual([0, 0, 0]);
    } finally {
      for (const file of [data, map, unwritable]) await file.close();
    }
  });

  it("ignores bytes behind the last span", async () => {
    const span = gzip.spans[2]!;
    const input = Buffer.concat([compressedOf(gzip, span), Buffer.alloc(1000, 0xff)]);
    for (const pieceBytes of [100, input.length]) {
      expect((await decode("gzip", span.record, span.window, input, pieceBytes)).length).toBe(1);
    }
  });

  it("asks for more input as long as a span is not complete", async () => {
    const span = gzip.spans[2]!;
    const decoder = native.decoderOpen(Compression.gzip, span.record, span.window);
    for (let asked = 0; asked < 40; asked++) expect(await native.decoderNext(decoder)).toBe(null);
    native.decoderWrite(decoder, compressedOf(gzip, span).subarray(0, -20));
    for (let asked = 0; asked < 40; asked++) expect(await native.decoderNext(decoder)).toBe(null);
    native.decoderWrite(decoder, compressedOf(gzip, span).subarray(-20));
    expect((await native.decoderNext(decoder))?.length).toBe(span.length);
  });

  it("passes over trailers, headers and empty members between spans", async () => {
    const members = await scan("gzip", gzipMembers(data, 30_000), { spanBytes: 65_536 });
    const bytes = Buffer.concat(await decodeRun(members, 3, 9, 11));
    const start = members.spans[3]!.offset;
    expect(bytes.equals(data.subarray(start, members.spans[9]!.offset))).toBe(true);
  });

  it("gives bytes that stay when the decoder is gone", async () => {
    const kept: Uint8Array[] = [];
    for (let turn = 0; turn < 50; turn++) {
      const span = gzip.spans[turn % gzip.spans.length]!;
      kept.push(
        ...(await decode("gzip", span.record, span.window, compressedOf(gzip, span)).catch(() => [])),
      );
    }
    expect(kept.length).toBe(50);
    for (const bytes of kept) expect(data.includes(Buffer.from(bytes))).toBe(true);
  });
});

describe("a span whose bytes are not what its record says", () => {
  it("is refused for another digest", async () => {
    for (const [compression, blob] of [
      ["gzip", gzip.blob],
      ["zstd", zstdFrames(data, 100_000)],
      ["none", data],
    ] as [CompressionName, Buffer][]) {
      const scanned = await scan(compression, blob);
      const span = scanned.spans[2]!;
      for (const bit of [48, 79]) {
        const record = Buffer.from(span.record);
        record[bit]! ^= 1;
        await expect(decode(compression, record, span.window, compressedOf(scanned, span))).rejects.toEqual(
          failure("SPAN_DIGEST", /span at offset \d+: its bytes do not have the digest of its record/),
        );
      }
    }
  });

  it("is refused for plain bytes that differ", async () => {
    const plain = await scan("none", Buffer.from(data));
    plain.blob[plain.spans[3]!.offset + 5]! ^= 0x40;
    expect((await decodeRun(plain, 2, 3)).length).toBe(1);
    await expect(decodeRun(plain, 2, 4)).rejects.toEqual(failure("SPAN_DIGEST"));
  });

  it("is refused for a flipped bit anywhere in its compressed bytes that matters", async () => {
    const span = gzip.spans[2]!;
    const right = data.subarray(span.offset, span.offset + span.length);
    for (let at = 1; at < span.compressedEnd - span.compressedStart; at += 89) {
      const input = Buffer.from(compressedOf(gzip, span));
      input[at]! ^= 1 << (at % 8);
      const outcome = await decode("gzip", span.record, span.window, input).catch((error) => error.code);
      // The last bits may belong to the end-of-block code, which no byte depends on.
      if (Array.isArray(outcome)) expect(Buffer.concat(outcome).equals(right)).toBe(true);
      else expect(outcome).toMatch(/^SPAN_(CORRUPT|DIGEST)$/);
    }
  });

  it("is refused when its bytes end where its record says but not its data", async () => {
    const span = gzip.spans[2]!;
    await expect(
      decodeChanged((record) => record.writeBigUInt64LE(BigInt(span.compressedEnd - 100), 24)),
    ).rejects.toEqual(failure("SPAN_CORRUPT", /needs more bytes than its record says/));
  });

  it("is refused when the layer's data ends within it", async () => {
    const blob = Buffer.concat([zlib.gzipSync(data.subarray(0, 100_000)), Buffer.alloc(1000)]);
    const scanned = await scan("gzip", blob, { spanBytes: 1 << 20 });
    const record = Buffer.from(scanned.spans[0]!.record);
    record.writeUInt32LE(100_001, 8);
    record.writeBigUInt64LE(BigInt(blob.length), 24);
    await expect(decode("gzip", record, Buffer.alloc(0), blob)).rejects.toEqual(
      failure("SPAN_CORRUPT", /ends within the span/),
    );
  });

  it("is refused for a window that is wrong, cut or too long", async () => {
    const { window } = gzip.spans[2]!;
    const other = zlib.deflateRawSync(Buffer.alloc(gzip.spans[2]!.windowLength, 1));
    await expect(decodeChanged((record) => record.writeUInt32LE(other.length, 40), other)).rejects.toEqual(
      failure("SPAN_DIGEST"),
    );
    for (const bad of [window.subarray(0, -1), Buffer.concat([window, Buffer.alloc(1)])]) {
      await expect(decodeChanged((record) => record.writeUInt32LE(bad.length, 40), bad)).rejects.toEqual(
        failure("SPAN_CORRUPT", /stored window does not inflate to its length/),
      );
    }
  });

  it.each([
    [
      "begins within the one before",
      (second: Buffer) => second.writeBigUInt64LE(gzip.spans[3]!.record.readBigUInt64LE(16) - 5n, 16),
      /begins within the span before|digest|invalid/,
    ],
    [
      "begins behind where it does",
      (second: Buffer) => second.writeBigUInt64LE(second.readBigUInt64LE(16) + 3n, 16),
      /./,
    ],
    ["begins at another bit", (second: Buffer) => second.writeUInt8((second[13]! + 3) % 8, 13), /./],
    ["has nothing before it", (second: Buffer) => second.writeUInt32LE(1, 44), undefined],
  ])("is refused where it is the second one and %s, and the first is not", async (_, change, about) => {
    const first = gzip.spans[2]!;
    const record = Buffer.from(gzip.spans[3]!.record);
    change(record);
    for (const pieceBytes of [1000, 1 << 20]) {
      const decoder = native.decoderOpen(
        Compression.gzip,
        Buffer.concat([first.record, record]),
        first.window,
      );
      const input = gzip.blob.subarray(first.compressedStart, gzip.spans[3]!.compressedEnd);
      const results: unknown[] = [];
      for (let at = 0; at < input.length && results.length < 2; at += pieceBytes) {
        native.decoderWrite(decoder, input.subarray(at, at + pieceBytes));
        for (let next: unknown = true; next && results.length < 2; ) {
          next = await native.decoderNext(decoder).catch((error: unknown) => error);
          if (next) results.push(next);
        }
      }
      const right = data.subarray(first.offset, first.offset + first.length);
      expect(Buffer.from(results[0] as Uint8Array).equals(right)).toBe(true);
      // A shorter window may do: what is behind it need not be referred to.
      if (about) expect(results[1]).toMatchObject({ message: expect.stringMatching(about) });
      else if (results[1] instanceof Uint8Array) expect(results[1].length).toBe(gzip.spans[3]!.length);
      else expect(results[1]).toMatchObject({ code: expect.stringMatching(/SPAN_/) });
    }
  });

  it("stays refused, and says the same again", async () => {
    const decoder = native.decoderOpen(
      Compression.gzip,
      changed((record) => record.fill(0, 48)),
      gzip.spans[2]!.window,
    );
    native.decoderWrite(decoder, compressedOf(gzip, gzip.spans[2]!));
    await expect(native.decoderNext(decoder)).rejects.toEqual(failure("SPAN_DIGEST"));
    native.decoderWrite(decoder, compressedOf(gzip, gzip.spans[2]!));
    await expect(native.decoderNext(decoder)).rejects.toEqual(failure("SPAN_DIGEST"));
  });
});

describe("span records that break a rule of FORMAT.md are refused at once", () => {
  const big = (value: bigint, at: number) => (record: Buffer) => record.writeBigUInt64LE(value, at);
  const word = (value: number, at: number) => (record: Buffer) => record.writeUInt32LE(value, at);
  const byte = (value: number, at: number) => (record: Buffer) => record.writeUInt8(value, at);
  it.each([
    ["no restart point first", byte(0, 12), /first span is no restart point|does not restart/],
    ["an unknown restart", byte(3, 12), /none of 0, 1, 2/],
    ["a ninth bit", byte(8, 13), /startBit/],
    ["a reserved byte", byte(1, 15), /reserved/],
    ["no length", word(0, 8), /1 to 64 MiB/],
    ["a length beyond the limit", word((64 << 20) + 1, 8), /1 to 64 MiB/],
    ["an offset beyond 2^53", big(2n ** 64n - 1n, 0), /beyond 2\^53/],
    ["a compressed end beyond 2^53", big(2n ** 63n, 24), /beyond 2\^53/],
    ["an empty compressed range", big(1n, 24), /compressed range is empty/],
    ["a window that is too long", word(32769, 44), /longer than 32 KiB/],
    ["a stored window that is too long", word(65537, 40), /longer than 64 KiB/],
    ["a window of no length", word(0, 44), /one length of zero/],
    ["a window that is not the one given", word(1, 40), /stored window has \d+ bytes instead of 1/],
    ["a member with a window", byte(1, 12), /does not restart at a block/],
  ])("%s", (_, change, about) => {
    expect(() => native.decoderOpen(Compression.gzip, changed(change), gzip.spans[2]!.window)).toThrow(
      failure("SPAN_CORRUPT", about),
    );
  });

  it("a window longer than what is before the span", () => {
    const record = changed((bytes) => bytes.writeBigUInt64LE(100n, 0));
    expect(() => native.decoderOpen(Compression.gzip, record, gzip.spans[2]!.window)).toThrow(
      failure("SPAN_CORRUPT", /longer than what is before it/),
    );
  });

  it.each([
    ["a gap", (second: Buffer) => second.writeBigUInt64LE(second.readBigUInt64LE(0) + 1n, 0), /leaves a gap/],
    ["a start that goes back", (second: Buffer) => second.writeBigUInt64LE(0n, 16), /start goes back/],
    [
      "an end that goes back",
      (second: Buffer) => {
        second.writeBigUInt64LE(gzip.spans[2]!.record.readBigUInt64LE(16), 16);
        second.writeBigUInt64LE(gzip.spans[2]!.record.readBigUInt64LE(24) - 1n, 24);
      },
      /end goes back/,
    ],
  ])("%s between two spans", (_, change, about) => {
    const [first, second] = [gzip.spans[2]!, Buffer.from(gzip.spans[3]!.record)];
    change(second);
    expect(() =>
      native.decoderOpen(Compression.gzip, Buffer.concat([first.record, second]), first.window),
    ).toThrow(failure("SPAN_CORRUPT", about));
  });

  it("no records, or half of one", () => {
    for (const length of [0, 79, 81]) {
      expect(() => native.decoderOpen(Compression.gzip, Buffer.alloc(length), Buffer.alloc(0))).toThrow(
        failure("SPAN_CORRUPT", /not a multiple of 80|have 0 bytes/),
      );
    }
  });

  it("deflate blocks in what is not deflate", () => {
    for (const compression of [Compression.none, Compression.zstd]) {
      expect(() => native.decoderOpen(compression, gzip.spans[2]!.record, gzip.spans[2]!.window)).toThrow(
        failure("SPAN_CORRUPT", /only deflate/),
      );
    }
  });

  it("plain bytes that are not where they must be", async () => {
    const plain = await scan("none", data);
    const record = Buffer.from(plain.spans[1]!.record);
    record.writeBigUInt64LE(record.readBigUInt64LE(24) + 1n, 24);
    expect(() => native.decoderOpen(Compression.none, record, Buffer.alloc(0))).toThrow(
      failure("SPAN_CORRUPT", /elsewhere/),
    );
  });
});
