/**
 * Every metric that skim shows Prometheus: the one place that says what there is. The code that renders them (metrics.ts), METRICS.md and the Grafana dashboard are made from
 * this table, and tests hold them against it.
 *
 * Series are bounded, whatever runs on a host. Labels have a few values that the code knows; none is the id of a mount or container, which come and go by the thousand. `image` is
 * the exception: the first twelve digits of the manifest's digest, which names an image exactly, as a tag does not, and is no longer than a person can compare. It is only at
 * gauges of what is mounted at the moment: a counter by image would keep a series for each image that was ever run.
 */
export type MetricType = "counter" | "gauge" | "histogram";

export interface MetricDescription {
  readonly type: MetricType;
  /** Base units of Prometheus; none for what is counted. */
  readonly unit: "seconds" | "bytes" | "ratio" | "none";
  readonly labels: Readonly<Record<string, string>>;
  /** One sentence for people. */
  readonly meaning: string;
}

const bySource = { source: "memory, cache or network" };
const byPhase = { phase: "network, inflate or queue" };
const byImage = { image: "first 12 hex digits of the manifest's digest; `other` beyond 100 images" };

export const metricsTable = {
  skim_build_info: {
    type: "gauge",
    unit: "none",
    labels: { version: "of skim" },
    meaning: "Always 1.",
  },
  skim_mounts: {
    type: "gauge",
    unit: "none",
    labels: { state: "serving, stuck, silent or dead" },
    meaning:
      "Mounts of this host; stuck: a reader has waited for seconds, silent: the server does not answer, dead: it has ended.",
  },
  skim_image_mounts: {
    type: "gauge",
    unit: "none",
    labels: byImage,
    meaning: "Mounts that are served, by image.",
  },
  skim_image_present_ratio: {
    type: "gauge",
    unit: "ratio",
    labels: byImage,
    meaning: "Compressed bytes of a mounted image that are in the cache, of all.",
  },
  skim_mounts_started_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Mounts that became ready.",
  },
  skim_mount_failures_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Mounts that were asked for and did not become ready.",
  },
  skim_mount_ready_seconds: {
    type: "histogram",
    unit: "seconds",
    labels: {},
    meaning: "From when a server is told what to serve until the kernel has the mount.",
  },
  skim_server_restarts_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning:
      "Servers that took the mounts of one that had ended, been killed, or was replaced by another version.",
  },
  skim_reads_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "READ requests that were answered with bytes.",
  },
  skim_read_failures_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "READ requests that were answered with an error.",
  },
  skim_served_bytes_total: {
    type: "counter",
    unit: "bytes",
    labels: {},
    meaning: "Bytes that reads were answered with.",
  },
  skim_read_spans_total: {
    type: "counter",
    unit: "none",
    labels: bySource,
    meaning:
      "Spans that reads wanted bytes of, by where these came from; network: a miss that was waited for.",
  },
  skim_span_wait_seconds: {
    type: "histogram",
    unit: "seconds",
    labels: bySource,
    meaning:
      "From when a span that was not at hand was wanted until it had landed; what native threads serve from the cache at once is not in it.",
  },
  skim_span_wait_phase_seconds: {
    type: "histogram",
    unit: "seconds",
    labels: byPhase,
    meaning:
      "What readers of misses waited for: bytes from the network, inflating and verifying, their turn.",
  },
  skim_span_waits_unserved_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Waits for a span that ended without it: it failed, or the reader went away.",
  },
  skim_waiting_spans: {
    type: "gauge",
    unit: "none",
    labels: {},
    meaning: "Spans that readers wait for at the moment.",
  },
  skim_waiting_longest_seconds: {
    type: "gauge",
    unit: "seconds",
    labels: {},
    meaning: "How long the reader that waits longest at the moment has waited.",
  },
  skim_fetches_in_flight: {
    type: "gauge",
    unit: "none",
    labels: { urgency: "demand, ahead or fill" },
    meaning: "Requests for spans under way: a reader waits, one will soon, or it fills the cache.",
  },
  skim_fetch_requests_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Ranges of layers that were asked for, repeated ones included.",
  },
  skim_fetched_bytes_total: {
    type: "counter",
    unit: "bytes",
    labels: {},
    meaning: "Compressed bytes of layers that came from registries and mirrors.",
  },
  skim_prefetched_spans_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Spans that came before anybody asked for them.",
  },
  skim_retries_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning:
      "Attempts at bytes that were asked for before: the attempt before failed, or its bytes were wrong.",
  },
  skim_verification_failures_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Spans, from the network or from disk, that did not have their digest or did not inflate.",
  },
  skim_mirrors: {
    type: "gauge",
    unit: "none",
    labels: { state: "in_use, resting or on_trial" },
    meaning: "Mirrors, counted for each mount that has them; resting: left alone after a failure.",
  },
  skim_cache_bytes: {
    type: "gauge",
    unit: "bytes",
    labels: {},
    meaning: "What the layers in the cache directory take on disk.",
  },
  skim_cache_limit_bytes: {
    type: "gauge",
    unit: "bytes",
    labels: {},
    meaning: "What they may take; less where the disk has to have room.",
  },
  skim_cache_filesystem_free_bytes: {
    type: "gauge",
    unit: "bytes",
    labels: {},
    meaning: "Free on the filesystem of the cache directory.",
  },
  skim_cache_write_failures_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Spans that the disk did not take: they were served all the same.",
  },
  skim_evicted_layers_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Layers that were evicted as wholes.",
  },
  skim_evicted_spans_total: {
    type: "counter",
    unit: "none",
    labels: {},
    meaning: "Spans that were evicted from layers that stayed.",
  },
  skim_evicted_bytes_total: {
    type: "counter",
    unit: "bytes",
    labels: {},
    meaning: "What evictions freed on disk.",
  },
  skim_fuse_requests_total: {
    type: "counter",
    unit: "none",
    labels: { operation: "the kernel's name of it, in lower case" },
    meaning: "Requests of the kernel, by operation.",
  },
} as const satisfies Record<string, MetricDescription>;

export type MetricName = keyof typeof metricsTable;
export const metricNames = Object.keys(metricsTable) as MetricName[];
