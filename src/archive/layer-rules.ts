/**
 * The rules of FORMAT.md for layers, spans and windows: what an archive must keep before a byte of a layer is fetched by it.
 *
 * One pass over the layers in their order. Each layer that was not there before owns the next spans, whose offsets form chains
 * in the uncompressed layer, in the blob and in windows; so every record is looked at once, whatever the counts say.
 */
import { limits } from "../base/limits.js";
import { type Digest, isDigest } from "../image/digest.js";
import type { Manifest } from "../image/manifest.js";
import { Compression, type CompressionName } from "../native/binding.js";
import type { ArchiveLayer, SpanRecord } from "./archive.js";
import {
  type LayerRecord,
  layerReservedIsZero,
  readLayer,
  readSpan,
  recordBytes,
  spanAt,
} from "./records.js";
import type { Refuse } from "./refusal.js";
import type { LoadedSections } from "./section-bytes.js";

/** Four of the largest spans that a setting allows: that is where the scanner ends a span that has no restart point. */
export const spanLengthMax = 4 * limits.spanBytesMax;
/** A window deflated is at most a little larger than itself; this bounds what reading one allocates. */
export const windowStoredMax = 2 * limits.windowBytes;

const compressionNames = Object.keys(Compression) as CompressionName[];

export interface CheckedLayers {
  readonly layers: readonly ArchiveLayer[];
  /** For each span the one at which decoding it starts. */
  readonly restartOf: Uint32Array;
}

/** Checks the layers against the manifest, and all spans. Throws ARCHIVE_DAMAGED. */
export function checkLayers(
  sections: LoadedSections,
  windowsLength: number,
  manifest: Manifest,
  refuse: Refuse,
): CheckedLayers {
  const { bytes, view } = sections.layers;
  const layerCount = bytes.length / recordBytes.layers;
  if (layerCount !== manifest.layers.length) {
    throw refuse("layers", undefined, `${layerCount} layers, but the manifest has ${manifest.layers.length}`);
  }
  const spans = new SpanChain(sections, windowsLength, refuse);
  const layers: ArchiveLayer[] = [];
  const firstOfDigest = new Map<Digest, ArchiveLayer>();
  for (let i = 0; i < layerCount; i++) {
    const at = i * recordBytes.layers;
    const record = readLayer(view, at);
    const no = (found: string) => refuse("layers", i, found);
    if (!layerReservedIsZero(view, at)) throw no("reserved bytes are not zero");
    const compression = compressionNames.find((name) => Compression[name] === record.compression);
    if (compression === undefined) throw no(`compression is ${record.compression}`);
    if (!Number.isSafeInteger(record.compressedBytes) || !Number.isSafeInteger(record.uncompressedBytes)) {
      throw no("compressedBytes or uncompressedBytes is not below 2^53");
    }
    const text = (offset: number, length: number, field: string) => {
      const names = sections.names.bytes;
      if (offset + length > names.length) throw no(`${field} reaches beyond the end of names`);
      return names.subarray(offset, offset + length);
    };
    const digest = text(record.digestOffset, record.digestLength, "digest").toString("latin1");
    const diffId = text(record.diffIdOffset, record.diffIdLength, "diffId").toString("latin1");
    const mediaType = text(record.mediaTypeOffset, record.mediaTypeLength, "mediaType");
    const descriptor = manifest.layers[i]!;
    if (digest !== descriptor.digest)
      throw no(`digest is not ${descriptor.digest}, which the manifest has there`);
    if (!isDigest(diffId)) throw no("diffId is not a sha256 or sha512 digest");
    if (!Buffer.from(descriptor.mediaType).equals(mediaType)) throw no("mediaType is not the manifest's");
    if (record.compressedBytes !== descriptor.size) {
      throw no(`compressedBytes is ${record.compressedBytes}, but the manifest says ${descriptor.size}`);
    }
    const twin = firstOfDigest.get(descriptor.digest);
    if (twin && !isTwin(twin, record, diffId, compression)) {
      throw no("not the same as the layer before that has its digest");
    }
    const layer: ArchiveLayer = {
      digest: descriptor.digest,
      diffId,
      mediaType: descriptor.mediaType,
      compression,
      compressedBytes: record.compressedBytes,
      uncompressedBytes: record.uncompressedBytes,
      spanFirst: record.spanFirst,
      spanCount: record.spanCount,
      restarts: twin ? twin.restarts : spans.checkLayer(record, no),
    };
    if (!twin) firstOfDigest.set(layer.digest, layer);
    layers.push(layer);
  }
  spans.checkEnd();
  return { layers, restartOf: spans.restartOf };
}

function isTwin(twin: ArchiveLayer, record: LayerRecord, diffId: string, compression: string): boolean {
  return (
    twin.diffId === diffId &&
    twin.compression === compression &&
    twin.uncompressedBytes === record.uncompressedBytes &&
    twin.spanFirst === record.spanFirst &&
    twin.spanCount === record.spanCount
  );
}

/** Where the spans looked at so far end, in spans and in windows. */
class SpanChain {
  readonly restartOf: Uint32Array;
  readonly #sections: LoadedSections;
  readonly #windowsLength: number;
  readonly #refuse: Refuse;
  #spanEnd = 0;
  #windowsEnd = 0;

  constructor(sections: LoadedSections, windowsLength: number, refuse: Refuse) {
    this.#sections = sections;
    this.#windowsLength = windowsLength;
    this.#refuse = refuse;
    this.restartOf = new Uint32Array(sections.spans.bytes.length / recordBytes.spans);
  }

  /** Checks the spans of the next layer that has its own; gives how many of them are restart points. */
  checkLayer(layer: LayerRecord, no: (found: string) => Error): number {
    if (layer.spanFirst !== this.#spanEnd) {
      throw no(`spanFirst is ${layer.spanFirst}, but the spans of the layers before end at ${this.#spanEnd}`);
    }
    const end = layer.spanFirst + layer.spanCount;
    if (end > this.restartOf.length) {
      throw no(`its spans end at ${end}, but there are only ${this.restartOf.length}`);
    }
    const { bytes, view } = this.#sections.spans;
    let uncompressedEnd = 0;
    let restarts = 0;
    let restartIndex = 0;
    let before: SpanRecord | undefined;
    for (let index = layer.spanFirst; index < end; index++) {
      const at = index * recordBytes.spans;
      const span = readSpan(view, bytes, at);
      const fault =
        view.getUint16(at + spanAt.reserved, true) !== 0
          ? "reserved bytes are not zero"
          : (chainFault(span, before, uncompressedEnd, layer) ??
            restartFault(span, before, layer.compression) ??
            this.#windowFault(span));
      if (fault !== undefined) throw this.#refuse("spans", index, fault);
      if (span.restart !== 0) {
        restartIndex = index;
        restarts++;
      }
      this.restartOf[index] = restartIndex;
      this.#windowsEnd += span.windowStored;
      uncompressedEnd += span.uncompressedLength;
      before = span;
    }
    if (uncompressedEnd !== layer.uncompressedBytes) {
      throw no(
        `its spans hold ${uncompressedEnd} bytes, but uncompressedBytes is ${layer.uncompressedBytes}`,
      );
    }
    this.#spanEnd = end;
    return restarts;
  }

  checkEnd(): void {
    if (this.#spanEnd !== this.restartOf.length) {
      throw this.#refuse("spans", this.#spanEnd, "belongs to no layer");
    }
    if (this.#windowsEnd !== this.#windowsLength) {
      const found = `${this.#windowsLength} bytes, but the windows of the spans end at ${this.#windowsEnd}`;
      throw this.#refuse("windows", undefined, found);
    }
  }

  #windowFault(span: SpanRecord): string | undefined {
    const { windowOffset, windowStored, windowLength } = span;
    if (span.restart !== 2 && (windowStored !== 0 || windowLength !== 0)) {
      return `it has a window, but restart is ${span.restart}`;
    }
    if ((windowStored === 0) !== (windowLength === 0)) {
      return `${windowStored} bytes are stored for a window of ${windowLength}`;
    }
    if (windowLength > limits.windowBytes)
      return `windowLength ${windowLength} is above ${limits.windowBytes}`;
    if (windowLength > span.uncompressedOffset) {
      return `windowLength ${windowLength} is more than there is before the span`;
    }
    if (windowStored > windowStoredMax) return `windowStored ${windowStored} is above ${windowStoredMax}`;
    if (windowStored === 0) {
      return windowOffset === 0 ? undefined : "windowOffset is not 0 though nothing is stored";
    }
    if (windowOffset !== this.#windowsEnd) {
      return `windowOffset is ${windowOffset}, but the windows before end at ${this.#windowsEnd}`;
    }
    if (windowOffset + windowStored > this.#windowsLength)
      return "its window reaches beyond the end of windows";
    return undefined;
  }
}

function chainFault(
  span: SpanRecord,
  before: SpanRecord | undefined,
  uncompressedEnd: number,
  layer: LayerRecord,
): string | undefined {
  if (span.uncompressedOffset !== uncompressedEnd) {
    return `uncompressedOffset is ${span.uncompressedOffset}, but the span before ends at ${uncompressedEnd}`;
  }
  if (span.uncompressedLength < 1 || span.uncompressedLength > spanLengthMax) {
    return `uncompressedLength ${span.uncompressedLength} is not 1 to ${spanLengthMax}`;
  }
  if (span.compressedEnd <= span.compressedStart) return "compressedEnd is not above compressedStart";
  if (span.compressedEnd > layer.compressedBytes) {
    return `compressedEnd ${span.compressedEnd} is beyond the blob's ${layer.compressedBytes} bytes`;
  }
  if (before && span.compressedStart < before.compressedStart)
    return "compressedStart is below that of the span before";
  if (before && span.compressedEnd < before.compressedEnd)
    return "compressedEnd is below that of the span before";
  return undefined;
}

function restartFault(
  span: SpanRecord,
  before: SpanRecord | undefined,
  compression: number,
): string | undefined {
  if (span.restart > 2) return `restart is ${span.restart}, not 0 to 2`;
  if (before === undefined && span.restart !== 1)
    return `restart of a layer's first span is ${span.restart}, not 1`;
  if (span.restart === 2 && compression !== Compression.gzip)
    return "restart is 2 in a layer that is not gzip";
  if (span.startBit > 7) return `startBit is ${span.startBit}, not 0 to 7`;
  if (span.startBit !== 0 && span.restart !== 2)
    return `startBit is ${span.startBit}, but restart is ${span.restart}`;
  if (before && span.restart === 0 && span.compressedStart !== before.compressedStart) {
    return "compressedStart is not that of the restart point before";
  }
  if (compression === Compression.none) {
    const { uncompressedOffset, uncompressedLength, compressedStart, compressedEnd } = span;
    if (span.restart !== 1) return "restart of plain bytes is 0";
    if (compressedStart !== uncompressedOffset || compressedEnd !== uncompressedOffset + uncompressedLength) {
      return "plain bytes are not where they are in the uncompressed layer";
    }
  }
  return undefined;
}
