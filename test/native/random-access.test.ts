import { beforeAll, describe, expect, it } from "vitest";
import type { CompressionName } from "../../src/native/binding.js";
import {
  fixedHuffman,
  gzipMember,
  gzipVariants,
  layerBytes,
  skippableFrame,
  zstd,
  zstdFrames,
} from "./blobs.js";
import { decodeRun, type Scan, scan, sha256 } from "./layer-scan.js";

const zstdVariants: Readonly<Record<string, (data: Buffer) => Buffer>> = {
  "a single frame": (data) => zstd(data, "-3"),
  "a single frame without checksum and size": (data) => zstd(data, "-1", "--no-check", "--no-content-size"),
  "a single frame of level 19": (data) => zstd(data, "-19"),
  "frames shorter than a span": (data) => zstdFrames(data, 50_000),
  "frames longer than a span": (data) => zstdFrames(data, 300_000),
  "frames longer than four spans": (data) => zstdFrames(data, 600_000),
  "skippable frames between": (data) =>
    Buffer.concat([
      skippableFrame(Buffer.from("front")),
      zstd(data.subarray(0, 500_000)),
      skippableFrame(Buffer.alloc(70_000, 0xfd)),
      skippableFrame(Buffer.alloc(0)),
      zstd(Buffer.alloc(0)),
      zstd(data.subarray(500_000)),
      skippableFrame(Buffer.from("table of contents")),
    ]),
};

const spanBytes = 64 * 1024;
const data = layerBytes();

describe.each([
  ...Object.entries(gzipVariants).map(([name, make]) => ["gzip" as CompressionName, name, make] as const),
  ...Object.entries(zstdVariants).map(([name, make]) => ["zstd" as CompressionName, name, make] as const),
  ["none", "plain bytes", (bytes: Buffer) => bytes] as const,
])("%s: %s", (compression, _, make) => {
  let blob: Buffer;
  let scanned: Scan;

  beforeAll(async () => {
    blob = make(data);
    scanned = await scan(compression, blob, { spanBytes });
  });

  it("is scanned to its bytes and their digests", () => {
    expect(scanned.stream.equals(data)).toBe(true);
    expect(Buffer.from(scanned.blobSha256)).toEqual(sha256(blob));
    expect(Buffer.from(scanned.uncompressedSha256)).toEqual(sha256(data));
    expect(scanned).toMatchObject({
      compressedBytes: blob.length,
      uncompressedBytes: data.length,
      trailingBytes: 0,
    });
  });

  it("has spans that obey every rule of FORMAT.md", () => {
    let offset = 0;
    let restartStart = 0;
    let before = { compressedStart: 0, compressedEnd: 0 };
    let windowBytes = 0;
    for (const [number, span] of scanned.spans.entries()) {
      expect(span.offset).toBe(offset);
      expect(span.length).toBeGreaterThan(0);
      expect(span.length).toBeLessThanOrEqual(4 * spanBytes);
      if (number < scanned.spans.length - 1) expect(span.length).toBeGreaterThanOrEqual(spanBytes);
      expect(span.digest).toEqual(sha256(data.subarray(offset, offset + span.length)));
      if (number === 0) expect(span.restart).toBe(1);
      if (span.restart !== 0) restartStart = span.compressedStart;
      expect(span.compressedStart).toBe(restartStart);
      expect(span.compressedStart).toBeGreaterThanOrEqual(before.compressedStart);
      expect(span.compressedEnd).toBeGreaterThanOrEqual(before.compressedEnd);
      expect(span.compressedEnd).toBeGreaterThan(span.compressedStart);
      expect(span.compressedEnd).toBeLessThanOrEqual(blob.length);
      expect(span.record.readUInt16LE(14)).toBe(0);
      if (span.restart !== 2) {
        expect([span.startBit, span.window.length, span.windowLength]).toEqual([0, 0, 0]);
      }
      expect(span.windowLength === 0).toBe(span.window.length === 0);
      if (span.window.length > 0) expect(Number(span.record.readBigUInt64LE(32))).toBe(windowBytes);
      windowBytes += span.window.length;
      offset += span.length;
      before = span;
    }
    expect(offset).toBe(data.length);
    expect(windowBytes).toBe(scanned.windows.length);
  });

  it("gives every span on its own, from exactly the bytes that its record names", async () => {
    for (const [number, span] of scanned.spans.entries()) {
      const bytes = (await decodeRun(scanned, number, number + 1)).at(-1);
      expect(bytes?.equals(data.subarray(span.offset, span.offset + span.length))).toBe(true);
    }
  });

  it("gives runs of spans in a single pass over their bytes", async () => {
    const count = scanned.spans.length;
    for (const [first, end] of [
      [0, count],
      [1, count],
      [count >> 1, Math.min(count, (count >> 1) + 3)],
    ] as const) {
      for (const pieceBytes of [4096, undefined]) {
        const from = scanned.spans.findLastIndex((span, at) => at <= first && span.restart !== 0);
        const bytes = Buffer.concat(await decodeRun(scanned, first, end, pieceBytes));
        expect(bytes.equals(data.subarray(scanned.spans[from]!.offset, endOf(scanned, end)))).toBe(true);
      }
    }
  });

  it("is noted in the same way however its bytes come in and go out", async () => {
    for (const [pieceBytes, outputBytes] of [
      [blob.length, 1 << 20],
      [4099, 40_093],
    ] as const) {
      const again = await scan(compression, blob, { spanBytes, pieceBytes, outputBytes });
      expect(Buffer.from(again.spanRecords).equals(Buffer.from(scanned.spanRecords))).toBe(true);
      expect(Buffer.from(again.windows).equals(Buffer.from(scanned.windows))).toBe(true);
    }
  });

  it("works from pieces of a few bytes as from large ones", async () => {
    const little = data.subarray(-4000);
    const small = await scan(compression, make(little), { spanBytes: 1024 });
    // Each piece is a trip to the thread pool: a few hundred are enough, also for headers of 64 KiB.
    const pieceBytes = 7 + (small.blob.length >> 8);
    const again = await scan(compression, small.blob, { spanBytes: 1024, pieceBytes, outputBytes: 31 });
    expect(again.stream.equals(little)).toBe(true);
    expect(Buffer.from(again.spanRecords).equals(Buffer.from(small.spanRecords))).toBe(true);
    expect(Buffer.from(again.windows).equals(Buffer.from(small.windows))).toBe(true);
    const all = Buffer.concat(await decodeRun(small, 0, small.spans.length, pieceBytes));
    expect(all.equals(little)).toBe(true);
    const last = small.spans.at(-1)!;
    const alone = await decodeRun(small, small.spans.length - 1, small.spans.length, 1);
    expect(alone.at(-1)!.equals(little.subarray(last.offset))).toBe(true);
  });
});

const endOf = (scanned: Scan, end: number) => scanned.spans[end]?.offset ?? scanned.uncompressedBytes;

it.each([
  [
    "gzip",
    gzipMember(data.subarray(0, 3000), fixedHuffman(data.subarray(0, 3000)), { name: Buffer.from("n") }),
  ],
  ["zstd", zstdFrames(data.subarray(0, 3000), 700)],
  ["none", data.subarray(0, 3000)],
] as const)("%s goes through byte by byte", async (compression, blob) => {
  const scanned = await scan(compression, blob, { spanBytes: 1024 });
  const again = await scan(compression, blob, { spanBytes: 1024, pieceBytes: 1, outputBytes: 1 });
  expect(again.stream.equals(data.subarray(0, 3000))).toBe(true);
  expect(Buffer.from(again.spanRecords).equals(Buffer.from(scanned.spanRecords))).toBe(true);
  const decoded = Buffer.concat(await decodeRun(scanned, 0, scanned.spans.length, 1));
  expect(decoded.equals(again.stream)).toBe(true);
});
