import { Counters } from "../base/metrics.js";

/** What content counts. */
export const contentCounters = [
  "reads_total",
  "read_bytes_total",
  /** Which path served each span of a read: waited for from the network, from the disk cache, from memory. */
  "network_spans_total",
  "disk_spans_total",
  "memory_spans_total",
  /** Ranged requests made, repeated ones included, and compressed bytes that came. */
  "fetch_requests_total",
  "fetched_bytes_total",
  /** Attempts at bytes that were asked for before: the one before failed, or its bytes were wrong. */
  "retries_total",
  /** Spans that came before anybody asked for them: by a profile, a start set, read-ahead or filling. */
  "prefetched_spans_total",
  /** Spans that reads wanted bytes of for the first time, cached or not, and their compressed bytes: what the workload needs. */
  "touched_spans_total",
  "touched_bytes_total",
  /** Spans whose bytes, from the network or from disk, did not have their digest or did not inflate. */
  "verification_failures_total",
  "cache_write_failures_total",
  /** Reads that ended in an error; those that their caller cancelled are none. */
  "read_failures_total",
] as const;

export type ContentCounter = (typeof contentCounters)[number];

export function createContentCounters(): Counters<ContentCounter> {
  return new Counters(contentCounters);
}

/** The counter of spans that came from there. */
export function spanCounterOf(from: "memory" | "disk" | "network"): ContentCounter {
  return `${from}_spans_total`;
}
