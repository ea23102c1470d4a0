/** Layers made by the real scanner, as content sees them in an archive, and a registry in memory that has their blobs. */
import { execFileSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import type { ArchiveExtent, SpanRecord } from "../../src/archive/archive.js";
import { readSpan, viewOf } from "../../src/archive/records.js";
import type { ContentArchive, ContentLayer } from "../../src/content/content-archive.js";
import { type Digest, digestOf } from "../../src/image/digest.js";
import { Compression, type CompressionName, SPAN_RECORD_BYTES } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";

/** The least the settings allow: many spans in few bytes. */
export const testSpanBytes = 64 * 1024;

export interface TestBlob {
  readonly compression: CompressionName;
  readonly truth: Buffer;
  readonly blob: Buffer;
  readonly digest: Digest;
}

export interface ScannedArchive extends ContentArchive {
  readonly blobs: ReadonlyMap<Digest, Buffer>;
  readonly truths: readonly Buffer[];
}

/** Printed by random tests that fail; the same seed gives the same bytes and the same choices. */
export const seed = Number(process.env.SKIM_TEST_SEED ?? Date.now() % 1_000_000);
let state = seed;

/** 0 to `end` (out). mulberry32. */
export function randomInteger(end: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
}

/** Bytes that compress to about half: sixteen letters, and different everywhere. */
export function sampleBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = 97 + randomInteger(16);
  return bytes;
}

export function gzipBlob(truth: Buffer): TestBlob {
  return testBlob("gzip", truth, gzipSync(truth, { level: 1 }));
}

export function plainBlob(truth: Buffer): TestBlob {
  return testBlob("none", truth, truth);
}

/** zstd; each of `frames` a frame of its own. */
export function zstdBlob(...frames: Buffer[]): TestBlob {
  const stored = frames.map((frame) =>
    execFileSync("zstd", ["-q", "-c", "-3"], { input: frame, maxBuffer: 1 << 30 }),
  );
  return testBlob("zstd", Buffer.concat(frames), Buffer.concat(stored));
}

function testBlob(compression: CompressionName, truth: Buffer, blob: Buffer): TestBlob {
  return { compression, truth, blob, digest: digestOf(blob) };
}

/** What an archive says of these layers; the same blob twice has the same spans, as in a real one. */
export async function scanLayers(
  blobs: readonly TestBlob[],
  spanBytes = testSpanBytes,
): Promise<ScannedArchive> {
  const layers: ContentLayer[] = [];
  const records: Uint8Array[] = [];
  const windows: Uint8Array[] = [];
  let windowBytes = 0;
  let spanCount = 0;
  for (const { digest, blob, compression } of blobs) {
    const same = layers.find((layer) => layer.digest === digest);
    if (same) {
      layers.push(same);
      continue;
    }
    const scanned = await scanBlob(compression, blob, spanBytes);
    const copy = Uint8Array.from(scanned.spanRecords);
    const view = viewOf(copy);
    for (let at = 32; at < copy.length; at += SPAN_RECORD_BYTES) {
      if (view.getUint32(at + 8, true) > 0)
        view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(windowBytes), true);
    }
    const count = copy.length / SPAN_RECORD_BYTES;
    layers.push({
      digest,
      compression,
      compressedBytes: blob.length,
      uncompressedBytes: scanned.uncompressedBytes,
      spanFirst: spanCount,
      spanCount: count,
    });
    spanCount += count;
    records.push(copy);
    windows.push(scanned.windows);
    windowBytes += scanned.windows.length;
  }
  return archiveOf(blobs, layers, Buffer.concat(records), Buffer.concat(windows));
}

async function scanBlob(compression: CompressionName, blob: Buffer, spanBytes: number) {
  const native = loadNative();
  const scanner = native.scannerOpen(Compression[compression], spanBytes);
  const output = Buffer.alloc(256 * 1024);
  native.scannerWrite(scanner, blob);
  while ((await native.scannerRead(scanner, output)) > 0);
  return await native.scannerFinish(scanner);
}

function archiveOf(
  blobs: readonly TestBlob[],
  layers: readonly ContentLayer[],
  records: Buffer,
  windows: Buffer,
): ScannedArchive {
  const view = viewOf(records);
  const span = (index: number): SpanRecord => readSpan(view, records, index * SPAN_RECORD_BYTES);
  return {
    layers,
    blobs: new Map(blobs.map(({ digest, blob }) => [digest, blob])),
    truths: blobs.map(({ truth }) => truth),
    span,
    spanRecords: (first, end) => records.subarray(first * SPAN_RECORD_BYTES, end * SPAN_RECORD_BYTES),
    spanIndexAt(layer, offset) {
      const { spanFirst, spanCount } = layers[layer]!;
      for (let index = spanFirst; index < spanFirst + spanCount; index++) {
        const { uncompressedOffset, uncompressedLength } = span(index);
        if (offset < uncompressedOffset + uncompressedLength) return index;
      }
      throw new Error(`offset ${offset} is not in layer ${layer}`);
    },
    restartSpan(index) {
      let restart = index;
      while (span(restart).restart === 0) restart--;
      return restart;
    },
    window(index) {
      const { windowOffset, windowStored } = span(index);
      return windows.subarray(windowOffset, windowOffset + windowStored);
    },
  };
}

/** A file that is a whole layer. */
export function wholeLayer(
  archive: ScannedArchive,
  layer = 0,
): { extents: ArchiveExtent[]; fileBytes: number } {
  const fileBytes = archive.truths[layer]!.length;
  return { extents: [{ fileOffset: 0, length: fileBytes, layer, layerOffset: 0 }], fileBytes };
}

/** Where span `index` of a layer starts, and how long it is. */
export function spanBounds(
  archive: ScannedArchive,
  index: number,
  layer = 0,
): { offset: number; length: number } {
  const { uncompressedOffset, uncompressedLength } = archive.span(archive.layers[layer]!.spanFirst + index);
  return { offset: uncompressedOffset, length: uncompressedLength };
}
