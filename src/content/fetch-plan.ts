/**
 * Which requests to make for spans that are missing. Neighbours go out as one ranged request: a round trip costs more than the bytes
 * between them. Very long runs are cut into requests of some megabytes that run side by side.
 *
 * A span without a restart point of its own is decoded from the last one before it, and whoever wants the span behind it would
 * have to do the same work again. So a run that needs such spans takes them all, to the next restart point: they are
 * decoded once and go to the disk cache. A zstd layer of one frame is fetched whole that way.
 */
import { rangeLength } from "../base/byte-range.js";
import type { ContentArchive, ContentLayer } from "./content-archive.js";

/** Compressed bytes of one request that could be two: some 70 ms at 1 Gbit/s, several times a usual round trip. */
export const requestBytesMax = 8 * 1024 * 1024;

/** Consecutive spans that are fetched with one request; indexes in the archive, the first one a restart point. */
export interface PlannedRun {
  readonly start: number;
  readonly end: number;
  /** True where the run goes beyond what was wanted, to save the spans behind from being decoded from here once more. */
  readonly toNextRestart: boolean;
}

/** `spans`: ascending indexes of spans of `layer`, none twice. The runs do not overlap. */
export function planRuns(
  archive: ContentArchive,
  layer: ContentLayer,
  spans: readonly number[],
  bytesMax: number = requestBytesMax,
): PlannedRun[] {
  const runs: { start: number; end: number; toNextRestart: boolean }[] = [];
  for (const span of spans) {
    const last = runs.at(-1);
    if (last && span < last.end) continue;
    const start = archive.restartSpan(span);
    const end = nextRestart(archive, layer, span);
    const toNextRestart = end - start > 1;
    const joined = last && start === last.end && compressedBytes(archive, last.start, end) <= bytesMax;
    if (joined) {
      last.end = end;
      last.toNextRestart ||= toNextRestart;
    } else {
      runs.push({ start, end, toNextRestart });
    }
  }
  return runs;
}

/** The first span behind `span` at which decoding can start, or the layer's end. */
export function nextRestart(archive: ContentArchive, layer: ContentLayer, span: number): number {
  const layerEnd = layer.spanFirst + layer.spanCount;
  let next = span + 1;
  while (next < layerEnd && archive.span(next).restart === 0) next++;
  return next;
}

/** The bytes of the blob that decoding the spans `start` (in) to `end` (out) needs; `start` is a restart point. */
export function compressedRange(archive: ContentArchive, start: number, end: number) {
  return { start: archive.span(start).compressedStart, end: archive.span(end - 1).compressedEnd };
}

function compressedBytes(archive: ContentArchive, start: number, end: number): number {
  return rangeLength(compressedRange(archive, start, end));
}
