/** Bytes of files as spans. */
import type { Archive } from "../archive/archive.js";
import type { ByteRange } from "../base/byte-range.js";

/** The spans that have the bytes of a range of a file, ascending; holes have none. */
export function* spansOfRange(
  archive: Pick<Archive, "extents" | "span" | "spanIndexAt">,
  ino: number,
  { start, end }: ByteRange,
): IterableIterator<{ readonly layer: number; readonly span: number }> {
  for (const { fileOffset, length, layer, layerOffset } of archive.extents(ino)) {
    const from = Math.max(start, fileOffset) - fileOffset + layerOffset;
    const to = Math.min(end, fileOffset + length) - fileOffset + layerOffset;
    if (from >= to) continue;
    const last = archive.spanIndexAt(layer, to - 1);
    for (let span = archive.spanIndexAt(layer, from); span <= last; span++) yield { layer, span };
  }
}
