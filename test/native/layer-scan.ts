import { createHash } from "node:crypto";
import { expect } from "vitest";
import {
  Compression,
  type CompressionName,
  type ScannerResult,
  SPAN_RECORD_BYTES,
} from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";

const native = loadNative();

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

export interface ScanOptions {
  readonly spanBytes?: number;
  /** Bytes per scannerWrite. */
  readonly pieceBytes?: number;
  /** Bytes of the buffer of scannerRead. */
  readonly outputBytes?: number;
}

export interface Scan extends ScannerResult {
  readonly compression: CompressionName;
  readonly blob: Buffer;
  /** The uncompressed stream. */
  readonly stream: Buffer;
  readonly spans: readonly Span[];
}

/** A span record, decoded as FORMAT.md describes it (and not as the addon does). */
export interface Span {
  readonly record: Buffer;
  readonly offset: number;
  readonly length: number;
  readonly restart: number;
  readonly startBit: number;
  readonly compressedStart: number;
  readonly compressedEnd: number;
  readonly windowLength: number;
  /** The stored window. */
  readonly window: Buffer;
  readonly digest: Buffer;
}

/** Scans `blob` whole. */
export async function scan(
  compression: CompressionName,
  blob: Buffer,
  { spanBytes = 64 * 1024, pieceBytes = 65536, outputBytes = 256 * 1024 }: ScanOptions = {},
): Promise<Scan> {
  const scanner = native.scannerOpen(Compression[compression], spanBytes);
  const output = Buffer.allocUnsafe(outputBytes);
  const made: Buffer[] = [];
  for (let at = 0; at < blob.length; at += pieceBytes) {
    native.scannerWrite(scanner, blob.subarray(at, at + pieceBytes));
    for (;;) {
      const length = await native.scannerRead(scanner, output);
      if (length === 0) break;
      made.push(Buffer.from(output.subarray(0, length)));
    }
  }
  const result = await native.scannerFinish(scanner);
  return { ...result, compression, blob, stream: Buffer.concat(made), spans: spansOf(result) };
}

export function spansOf(result: ScannerResult): Span[] {
  const spans: Span[] = [];
  for (let at = 0; at < result.spanRecords.length; at += SPAN_RECORD_BYTES) {
    const record = Buffer.from(result.spanRecords.subarray(at, at + SPAN_RECORD_BYTES));
    const windowOffset = Number(record.readBigUInt64LE(32));
    spans.push({
      record,
      offset: Number(record.readBigUInt64LE(0)),
      length: record.readUInt32LE(8),
      restart: record.readUInt8(12),
      startBit: record.readUInt8(13),
      compressedStart: Number(record.readBigUInt64LE(16)),
      compressedEnd: Number(record.readBigUInt64LE(24)),
      windowLength: record.readUInt32LE(44),
      window: Buffer.from(result.windows.subarray(windowOffset, windowOffset + record.readUInt32LE(40))),
      digest: record.subarray(48, 80),
    });
  }
  return spans;
}

/** Decodes `records` from `compressed` in pieces; whatever spans come out. Rejects as decoderNext does. */
export async function decode(
  compression: CompressionName,
  records: Uint8Array,
  window: Uint8Array,
  compressed: Buffer,
  pieceBytes = Math.max(1, compressed.length),
): Promise<Buffer[]> {
  const decoder = native.decoderOpen(Compression[compression], records, window);
  const made: Buffer[] = [];
  for (let at = 0; at < compressed.length; at += pieceBytes) {
    native.decoderWrite(decoder, compressed.subarray(at, at + pieceBytes));
    for (;;) {
      const isReady = native.decoderReady(decoder);
      const span = await native.decoderNext(decoder);
      if (!isReady) expect(span).toBe(null);
      if (span === null) break;
      made.push(Buffer.from(span.buffer, span.byteOffset, span.byteLength));
    }
  }
  return made;
}

/** Decodes spans `first` (in) to `end` (out) of a scan, from the nearest restart point before them. */
export function decodeRun(scan: Scan, first: number, end: number, pieceBytes?: number): Promise<Buffer[]> {
  while (scan.spans[first]!.restart === 0) first--;
  const spans = scan.spans.slice(first, end);
  const compressed = scan.blob.subarray(spans[0]!.compressedStart, spans.at(-1)!.compressedEnd);
  const records = Buffer.concat(spans.map((span) => span.record));
  return decode(scan.compression, records, spans[0]!.window, compressed, pieceBytes);
}
