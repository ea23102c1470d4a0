import type { Archive, ArchiveLayer } from "../archive/archive.js";

/** What content needs of an archive: where spans are and what they must be, nothing of the tree. */
export type ContentArchive = {
  readonly layers: readonly ContentLayer[];
} & Pick<Archive, "span" | "spanRecords" | "spanIndexAt" | "restartSpan" | "window">;

/** The layer that a span is of. Layers that are the same blob share their spans: one of them stands for all. */
export function layerOfSpan({ layers }: ContentArchive, span: number): ContentLayer {
  return layers.find(({ spanFirst, spanCount }) => span >= spanFirst && span < spanFirst + spanCount)!;
}

/** The layers that have spans, each blob once. */
export function layersOnce({ layers }: ContentArchive): ContentLayer[] {
  const found = new Map<number, ContentLayer>();
  for (const layer of layers) if (layer.spanCount > 0) found.set(layer.spanFirst, layer);
  return [...found.values()];
}

/** Spans of all layers: their indexes are below it. */
export function spanCountOf({ layers }: ContentArchive): number {
  return layers.reduce((count, { spanFirst, spanCount }) => Math.max(count, spanFirst + spanCount), 0);
}

/** Bytes of the blob that a span is decoded from. */
export function compressedBytesOf(archive: ContentArchive, span: number): number {
  const { compressedStart, compressedEnd } = archive.span(span);
  return compressedEnd - compressedStart;
}

export type ContentLayer = Pick<
  ArchiveLayer,
  "digest" | "compression" | "compressedBytes" | "uncompressedBytes" | "spanFirst" | "spanCount"
>;
