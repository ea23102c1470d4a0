/** When layers and spans were last used, as it is written into presence maps: at most once a minute, never for a single read. */
import { readSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { LAST_USED_AT, MAP_HEADER_BYTES, SpanState, stateAt, usedAt } from "./presence-map.js";

/** Milliseconds since 1970. */
export type Clock = () => number;

/** Notes in the map that the layer and these of its spans (in ascending order) were used. Never throws: it is a hint. */
export async function writeUse(
  map: FileHandle,
  spans: readonly number[],
  nowMs: number,
  spanCount = 0,
): Promise<void> {
  const layerTime = Buffer.alloc(8);
  layerTime.writeDoubleLE(nowMs);
  try {
    await map.write(layerTime, 0, layerTime.length, LAST_USED_AT);
    for (let first = 0; first < spans.length; ) {
      let end = first + 1;
      while (end < spans.length && spans[end] === spans[end - 1]! + 1) end++;
      const times = Buffer.alloc((end - first) * 4);
      for (let at = 0; at < times.length; at += 4) times.writeUInt32LE(Math.floor(nowMs / 1000), at);
      await map.write(times, 0, times.length, usedAt(spans[first]!, spanCount));
      first = end;
    }
  } catch {}
}

export interface SpanUse {
  readonly span: number;
  /** Seconds since 1970; 0 where it was never noted. */
  readonly usedSec: number;
}

/** Of the spans that are on disk, as the map says. Throws what the disk does. */
export function readSpanUses(mapFd: number, spanCount: number): SpanUse[] {
  const bytes = Buffer.alloc(usedAt(spanCount, spanCount));
  readSync(mapFd, bytes, MAP_HEADER_BYTES, bytes.length - MAP_HEADER_BYTES, MAP_HEADER_BYTES);
  const uses: SpanUse[] = [];
  for (let span = 0; span < spanCount; span++)
    if (bytes[stateAt(span)] === SpanState.present)
      uses.push({ span, usedSec: bytes.readUInt32LE(usedAt(span, spanCount)) });
  return uses;
}
