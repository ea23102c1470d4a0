/** Figures that are worked out from what a mount server tells, for tables and metrics. */
import { countOf, type HistogramSnapshot } from "../base/histogram.js";
import type { MountStats } from "./serve-image.js";

/** Where spans of reads came from: at hand in memory or on disk, or waited for from the registry. */
export interface ReadSources {
  readonly memory: number;
  readonly cache: number;
  readonly network: number;
}

export function readSources({ content }: Pick<MountStats, "content">): ReadSources {
  const {
    memory_spans_total: memory = 0,
    disk_spans_total: cache = 0,
    network_spans_total: network = 0,
  } = content;
  return { memory, cache, network };
}

/** Of the spans that reads wanted bytes of, how many did not have to come from the registry: 0 to 1; undefined where nothing was read. */
export function hitRatio({ memory, cache, network }: ReadSources): number | undefined {
  const all = memory + cache + network;
  return all === 0 ? undefined : (memory + cache) / all;
}

/**
 * The bound that this share (0 to 1) of the values is not above, as exactly as a histogram knows it; Infinity above its last bound, undefined where it has no
 * values.
 */
export function quantileBound(histogram: HistogramSnapshot, share: number): number | undefined {
  const wanted = Math.ceil(countOf(histogram) * share);
  if (wanted === 0) return undefined;
  let seen = 0;
  for (const [position, count] of histogram.counts.entries()) {
    seen += count;
    if (seen >= wanted) return histogram.bounds[position] ?? Number.POSITIVE_INFINITY;
  }
  return undefined;
}
