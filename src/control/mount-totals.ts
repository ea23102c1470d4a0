/** What a mount has counted so far, as metrics have it; totals of several mounts are added up. */
import { addHistograms, Histogram, type HistogramSnapshot, latencyBoundsSeconds } from "../base/histogram.js";
import { type WaitSource, waitSources } from "../content/finished-waits.js";
import { type Phase, phases } from "../content/phase-clock.js";
import type { EvictionCounts } from "../mount/disk-cache.js";
import { readSources } from "../mount/mount-figures.js";
import type { MountStats } from "../mount/serve-image.js";

/** Counters without labels, by the name of their metric. */
export const plainCounters = [
  "skim_reads_total",
  "skim_read_failures_total",
  "skim_served_bytes_total",
  "skim_span_waits_unserved_total",
  "skim_fetch_requests_total",
  "skim_fetched_bytes_total",
  "skim_prefetched_spans_total",
  "skim_retries_total",
  "skim_verification_failures_total",
  "skim_cache_write_failures_total",
  "skim_evicted_layers_total",
  "skim_evicted_spans_total",
  "skim_evicted_bytes_total",
] as const;

export type PlainCounter = (typeof plainCounters)[number];

export interface MountTotals {
  readonly counters: Readonly<Record<PlainCounter, number>>;
  readonly readSpans: Readonly<Record<WaitSource, number>>;
  readonly landed: Readonly<Record<WaitSource, HistogramSnapshot>>;
  readonly phases: Readonly<Record<Phase, HistogramSnapshot>>;
  readonly operations: Readonly<Record<string, number>>;
}

const noTimes = new Histogram(latencyBoundsSeconds).snapshot();

export const noTotals: MountTotals = {
  counters: recordOf(plainCounters, () => 0),
  readSpans: recordOf(waitSources, () => 0),
  landed: recordOf(waitSources, () => noTimes),
  phases: recordOf(phases, () => noTimes),
  operations: {},
};

export function totalsOf(stats: MountStats): MountTotals {
  const { content, evictions, landed, operations } = stats;
  const count = (name: string) => content[name] ?? 0;
  return {
    counters: {
      skim_reads_total: count("reads_total"),
      skim_read_failures_total: count("read_failures_total"),
      skim_served_bytes_total: count("read_bytes_total"),
      skim_span_waits_unserved_total: stats.unserved,
      skim_fetch_requests_total: count("fetch_requests_total"),
      skim_fetched_bytes_total: count("fetched_bytes_total"),
      skim_prefetched_spans_total: count("prefetched_spans_total"),
      skim_retries_total: count("retries_total"),
      skim_verification_failures_total: count("verification_failures_total"),
      skim_cache_write_failures_total: count("cache_write_failures_total"),
      ...evictionCounters(evictions),
    },
    readSpans: readSources(stats),
    landed,
    phases: stats.phases,
    operations,
  };
}

export function evictionCounters({ layers, spans, bytes }: EvictionCounts) {
  return {
    skim_evicted_layers_total: layers,
    skim_evicted_spans_total: spans,
    skim_evicted_bytes_total: bytes,
  };
}

export function addTotals(a: MountTotals, b: MountTotals): MountTotals {
  const operations = new Set([...Object.keys(a.operations), ...Object.keys(b.operations)]);
  return {
    counters: recordOf(plainCounters, (name) => a.counters[name] + b.counters[name]),
    readSpans: recordOf(waitSources, (name) => a.readSpans[name] + b.readSpans[name]),
    landed: recordOf(waitSources, (name) => addHistograms(a.landed[name], b.landed[name])),
    phases: recordOf(phases, (name) => addHistograms(a.phases[name], b.phases[name])),
    operations: recordOf([...operations], (name) => (a.operations[name] ?? 0) + (b.operations[name] ?? 0)),
  };
}

function recordOf<Name extends string, Value>(
  names: readonly Name[],
  of: (name: Name) => Value,
): Record<Name, Value> {
  return Object.fromEntries(names.map((name) => [name, of(name)])) as Record<Name, Value>;
}
