import type { Archive, ArchiveIdentity, ArchiveLayer, ArchiveSection, ArchiveTotals } from "./archive.js";

/** What `skim inspect` tells, as plain data. */
export interface ArchiveDescription extends ArchiveIdentity {
  readonly archiveBytes: number;
  /** What a mount keeps in memory, and what it reads when it needs it. */
  readonly metadataBytes: number;
  readonly windowBytes: number;
  readonly layers: readonly LayerDescription[];
  readonly sections: readonly ArchiveSection[];
  readonly totals: ArchiveTotals;
  readonly inodeCount: number;
  readonly hasXattrs: boolean;
  /** Undefined where the archive has none. */
  readonly startSet: StartSetDescription | undefined;
}

/** What a start of the image's command needs; FORMAT.md, "startSpans". */
export interface StartSetDescription {
  readonly spans: number;
  /** What fetching each of them for itself takes. */
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
}

export interface LayerDescription extends ArchiveLayer {
  /** Windows of this layer, as stored. */
  readonly windowBytes: number;
  /**
   * "ranges": a read fetches the spans it needs. "whole": decoding can start only at the layer's first byte, so the first read of
   * anything in it fetches all that comes before.
   */
  readonly access: "ranges" | "whole";
}

/** Describes an open archive; one pass over its spans. */
export function describeArchive(archive: Archive): ArchiveDescription {
  const windowBytes = archive.sections.find(({ name }) => name === "windows")?.bytes ?? 0;
  return {
    ...archive.identity,
    archiveBytes: archive.archiveBytes,
    metadataBytes: archive.archiveBytes - windowBytes,
    windowBytes,
    layers: archive.layers.map((layer) => describeLayer(archive, layer)),
    sections: archive.sections,
    totals: archive.totals,
    inodeCount: archive.inodeCount,
    hasXattrs: archive.hasXattrs,
    startSet: archive.startSpans && describeSpans(archive, archive.startSpans),
  };
}

function describeSpans(archive: Archive, spans: Uint32Array): StartSetDescription {
  let compressedBytes = 0;
  let uncompressedBytes = 0;
  for (const index of spans) {
    const { compressedStart, compressedEnd, uncompressedLength } = archive.span(index);
    compressedBytes += compressedEnd - compressedStart;
    uncompressedBytes += uncompressedLength;
  }
  return { spans: spans.length, compressedBytes, uncompressedBytes };
}

function describeLayer(archive: Archive, layer: ArchiveLayer): LayerDescription {
  let windowBytes = 0;
  for (let i = 0; i < layer.spanCount; i++) windowBytes += archive.span(layer.spanFirst + i).windowStored;
  return { ...layer, windowBytes, access: layer.restarts === 1 && layer.spanCount > 1 ? "whole" : "ranges" };
}
