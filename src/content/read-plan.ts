import type { ArchiveExtent } from "../archive/archive.js";
import type { ContentArchive } from "./content-archive.js";

/** Bytes that one span contributes to a read. */
export interface SpanPart {
  /** Position of the layer in the archive. */
  readonly layer: number;
  /** Index of the span in the archive. */
  readonly span: number;
  /** Where in the span the bytes start. */
  readonly spanOffset: number;
  /** Where they go; a view of the reader's buffer. */
  readonly into: Uint8Array;
}

/**
 * Cuts the read of a file from `offset` on into the spans that have its bytes, in the order of the file. `extents` as
 * `Archive.extents` gives them. What lies in a hole is set to zero at once.
 */
export function planRead(
  archive: ContentArchive,
  extents: readonly ArchiveExtent[],
  offset: number,
  into: Uint8Array,
): SpanPart[] {
  const parts: SpanPart[] = [];
  const end = offset + into.length;
  let at = offset;
  for (let position = firstEndingAfter(extents, offset); at < end; position++) {
    const extent = extents[position];
    const dataStart = Math.min(Math.max(extent?.fileOffset ?? end, at), end);
    if (dataStart > at) into.fill(0, at - offset, dataStart - offset);
    at = dataStart;
    if (!extent) break;
    const dataEnd = Math.min(extent.fileOffset + extent.length, end);
    let layerOffset = extent.layerOffset + (at - extent.fileOffset);
    for (let span = -1; at < dataEnd; ) {
      span = span < 0 ? archive.spanIndexAt(extent.layer, layerOffset) : span + 1;
      const { uncompressedOffset, uncompressedLength } = archive.span(span);
      const spanOffset = layerOffset - uncompressedOffset;
      const length = Math.min(uncompressedLength - spanOffset, dataEnd - at);
      parts.push({
        layer: extent.layer,
        span,
        spanOffset,
        into: into.subarray(at - offset, at - offset + length),
      });
      at += length;
      layerOffset += length;
    }
  }
  return parts;
}

/** Position of the first extent that ends behind `offset`; their number where there is none. */
function firstEndingAfter(extents: readonly ArchiveExtent[], offset: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = extents[middle]!;
    if (extent.fileOffset + extent.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
