import { createHash } from "node:crypto";
import type { Digest } from "../image/digest.js";
import { SPAN_RECORD_BYTES } from "../native/binding.js";
import { SPAN_ENTRY_BYTES } from "./presence-map.js";

/** What the cache must know of a layer. Spans are counted from 0 within the layer and follow each other without gap. */
export interface CachedLayer {
  readonly digest: Digest;
  readonly uncompressedBytes: number;
  readonly spanCount: number;
  span(index: number): CachedSpan;
}

export interface CachedSpan {
  readonly uncompressedOffset: number;
  readonly uncompressedLength: number;
  /** Of the span's bytes; 32 bytes. */
  readonly sha256: Uint8Array;
}

/** Length (u32, little endian) and sha256 of every span. */
export function spanTableOf(layer: CachedLayer): Buffer {
  const table = Buffer.allocUnsafe(layer.spanCount * SPAN_ENTRY_BYTES);
  for (let index = 0; index < layer.spanCount; index++) {
    const span = layer.span(index);
    table.writeUInt32LE(span.uncompressedLength, index * SPAN_ENTRY_BYTES);
    table.set(span.sha256, index * SPAN_ENTRY_BYTES + 4);
  }
  return table;
}

/**
 * What tells apart two ways to cut a layer: sha256 over the length and sha256 of every span. Layers with the
 * same layout have the same bytes, whatever the archives say that name them.
 */
export function layoutOf(layer: CachedLayer): Buffer {
  return createHash("sha256").update(spanTableOf(layer)).digest();
}

/** The spans of a layer as native code takes them: records as in the archive (FORMAT.md, "spans") with offset, length and sha256 filled in. */
export function spanRecordsOf(layer: CachedLayer): Buffer {
  const records = Buffer.alloc(layer.spanCount * SPAN_RECORD_BYTES);
  for (let index = 0; index < layer.spanCount; index++) {
    const { uncompressedOffset, uncompressedLength, sha256 } = layer.span(index);
    const at = index * SPAN_RECORD_BYTES;
    records.writeBigUInt64LE(BigInt(uncompressedOffset), at);
    records.writeUInt32LE(uncompressedLength, at + 8);
    records.set(sha256, at + 48);
  }
  return records;
}
