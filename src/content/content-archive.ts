import type { Archive, ArchiveLayer } from "../archive/archive.js";

/** What content needs of an archive: where spans are and what they must be, nothing of the tree. */
export type ContentArchive = {
  readonly layers: readonly ContentLayer[];
} & Pick<Archive, "span" | "spanRecords" | "spanIndexAt" | "restartSpan" | "window">;

export type ContentLayer = Pick<
  ArchiveLayer,
  "digest" | "compression" | "compressedBytes" | "uncompressedBytes" | "spanFirst" | "spanCount"
>;
