/** scripts/host/grafana-dashboard.json: the metrics of the hosts of a Prometheus, as somebody on call looks at them. Queries name metrics of metrics-table.ts only. */
import { type MetricName, metricsTable } from "./metrics-table.js";

/** Of Grafana 10, which later ones migrate by themselves. */
const schemaVersion = 38;
const columns = 24;
const panelHeight = 8;
const source = { type: "prometheus", uid: "$datasource" };
/** A host each, and all. */
const selector = 'instance=~"$instance"';

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly description?: string;
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly kind?: "timeseries" | "heatmap" | "stat";
  /** Of 24 columns. */
  readonly width?: number;
}

/** A metric with the hosts that are looked at. */
function of(name: MetricName, labels = ""): string {
  return `${name}{${[selector, labels].filter(Boolean).join(",")}}`;
}

function rate(name: MetricName, by = "", labels = ""): string {
  return `sum${by ? ` by (${by})` : ""} (rate(${of(name, labels)}[$__rate_interval]))`;
}

/** `part`: what the name has behind that of the table. */
function histogramOf(name: MetricName, part: "bucket" | "sum" | "count", labels = ""): string {
  return of(`${name}_${part}` as MetricName, labels);
}

function quantile(share: number, name: MetricName, labels = ""): Query {
  const buckets = histogramOf(name, "bucket", labels);
  return {
    expr: `histogram_quantile(${share}, sum by (le) (rate(${buckets}[$__rate_interval])))`,
    legend: `${share * 100} %`,
  };
}

function heatmap(name: MetricName, labels = ""): Query {
  return {
    expr: `sum by (le) (increase(${histogramOf(name, "bucket", labels)}[$__rate_interval]))`,
    legend: "{{le}}",
  };
}

const misses = 'source="network"';

const rows: readonly (readonly Panel[])[] = [
  [
    {
      title: "Mounts",
      unit: "short",
      kind: "stat",
      queries: [{ expr: `sum by (state) (${of("skim_mounts")})`, legend: "{{state}}" }],
    },
    {
      title: "Hit ratio",
      description:
        "Of the spans that reads wanted bytes of, those that did not have to come from a registry.",
      unit: "percentunit",
      kind: "stat",
      queries: [
        {
          expr: `1 - ${rate("skim_read_spans_total", "", misses)} / ${rate("skim_read_spans_total")}`,
          legend: "hits",
        },
      ],
    },
    {
      title: "Longest wait now",
      description: "More than seconds: a registry hangs, or a server does.",
      unit: "s",
      kind: "stat",
      queries: [{ expr: `max(${of("skim_waiting_longest_seconds")})`, legend: "longest" }],
    },
  ],
  [
    {
      title: "Starts",
      unit: "ops",
      queries: [
        { expr: rate("skim_mounts_started_total"), legend: "ready" },
        { expr: rate("skim_mount_failures_total"), legend: "failed" },
      ],
    },
    {
      title: "Time to ready",
      unit: "s",
      queries: [quantile(0.5, "skim_mount_ready_seconds"), quantile(0.99, "skim_mount_ready_seconds")],
    },
    {
      title: "Mounts by image",
      unit: "short",
      queries: [{ expr: `sum by (image) (${of("skim_image_mounts")})`, legend: "{{image}}" }],
    },
  ],
  [
    {
      title: "Spans read, by source",
      unit: "ops",
      queries: [{ expr: rate("skim_read_spans_total", "source"), legend: "{{source}}" }],
    },
    {
      title: "Wait for a miss",
      unit: "s",
      queries: [
        quantile(0.5, "skim_span_wait_seconds", misses),
        quantile(0.99, "skim_span_wait_seconds", misses),
      ],
    },
    {
      title: "What misses waited for",
      description: "Seconds of waiting a second, all readers together.",
      unit: "s",
      queries: [
        {
          expr: `sum by (phase) (rate(${histogramOf("skim_span_wait_phase_seconds", "sum")}[$__rate_interval]))`,
          legend: "{{phase}}",
        },
      ],
    },
  ],
  [
    {
      title: "Waits for misses",
      unit: "s",
      kind: "heatmap",
      width: 12,
      queries: [heatmap("skim_span_wait_seconds", misses)],
    },
    {
      title: "Waits for spans on disk",
      unit: "s",
      kind: "heatmap",
      width: 12,
      queries: [heatmap("skim_span_wait_seconds", 'source="cache"')],
    },
  ],
  [
    {
      title: "Bytes",
      unit: "Bps",
      queries: [
        { expr: rate("skim_served_bytes_total"), legend: "served" },
        { expr: rate("skim_fetched_bytes_total"), legend: "fetched" },
      ],
    },
    {
      title: "Under way",
      unit: "short",
      queries: [
        { expr: `sum by (urgency) (${of("skim_fetches_in_flight")})`, legend: "requests: {{urgency}}" },
        { expr: `sum(${of("skim_waiting_spans")})`, legend: "spans waited for" },
      ],
    },
    {
      title: "Fetched",
      unit: "ops",
      queries: [
        { expr: rate("skim_fetch_requests_total"), legend: "requests" },
        { expr: rate("skim_prefetched_spans_total"), legend: "spans ahead of need" },
      ],
    },
  ],
  [
    {
      title: "Cache",
      unit: "bytes",
      queries: [
        { expr: `sum by (instance) (${of("skim_cache_bytes")})`, legend: "{{instance}} used" },
        { expr: `sum by (instance) (${of("skim_cache_limit_bytes")})`, legend: "{{instance}} limit" },
        {
          expr: `sum by (instance) (${of("skim_cache_filesystem_free_bytes")})`,
          legend: "{{instance}} free",
        },
      ],
    },
    {
      title: "Evictions",
      unit: "ops",
      queries: [
        { expr: rate("skim_evicted_layers_total"), legend: "layers" },
        { expr: rate("skim_evicted_spans_total"), legend: "spans" },
        { expr: rate("skim_evicted_bytes_total"), legend: "bytes" },
      ],
    },
    {
      title: "Images in the cache",
      unit: "percentunit",
      queries: [{ expr: `min by (image) (${of("skim_image_present_ratio")})`, legend: "{{image}}" }],
    },
  ],
  [
    {
      title: "Errors",
      unit: "ops",
      queries: [
        { expr: rate("skim_read_failures_total"), legend: "reads failed" },
        { expr: rate("skim_span_waits_unserved_total"), legend: "waits without an end" },
        { expr: rate("skim_retries_total"), legend: "retries" },
        { expr: rate("skim_verification_failures_total"), legend: "wrong bytes" },
        { expr: rate("skim_cache_write_failures_total"), legend: "cache writes failed" },
      ],
    },
    {
      title: "Server restarts",
      unit: "short",
      queries: [
        {
          expr: `sum by (instance) (increase(${of("skim_server_restarts_total")}[$__rate_interval]))`,
          legend: "{{instance}}",
        },
      ],
    },
    {
      title: "Mirrors",
      unit: "short",
      queries: [{ expr: `sum by (state) (${of("skim_mirrors")})`, legend: "{{state}}" }],
    },
  ],
  [
    { title: "Reads", unit: "ops", queries: [{ expr: rate("skim_reads_total"), legend: "reads" }] },
    {
      title: "FUSE requests, by operation",
      unit: "ops",
      queries: [{ expr: rate("skim_fuse_requests_total", "operation"), legend: "{{operation}}" }],
    },
    {
      title: "Versions",
      unit: "short",
      kind: "stat",
      queries: [{ expr: `count by (version) (${of("skim_build_info")})`, legend: "{{version}}" }],
    },
  ],
];

/** The whole document. */
export function grafanaDashboard(): object {
  let id = 0;
  const panels = rows.flatMap((row, rowNumber) => {
    let x = 0;
    return row.map((panel) => {
      const w = panel.width ?? columns / row.length;
      const gridPos = { x, y: rowNumber * panelHeight, w, h: panelHeight };
      x += w;
      return { id: ++id, gridPos, ...panelJson(panel) };
    });
  });
  return {
    title: "skim",
    uid: "skim",
    tags: ["skim", "containers"],
    schemaVersion,
    version: 1,
    editable: true,
    refresh: "30s",
    time: { from: "now-3h", to: "now" },
    templating: { list: variables() },
    annotations: { list: [] },
    panels,
  };
}

function variables(): object[] {
  return [
    { name: "datasource", type: "datasource", query: "prometheus", label: "Prometheus" },
    {
      name: "instance",
      type: "query",
      label: "Host",
      datasource: source,
      query: { query: "label_values(skim_build_info, instance)", refId: "instance" },
      refresh: 2,
      includeAll: true,
      multi: true,
      allValue: ".*",
      current: { text: "All", value: "$__all" },
    },
  ];
}

function panelJson({ title, description, unit, queries, kind = "timeseries" }: Panel): object {
  return {
    title,
    description: description ?? meaningsOf(queries),
    type: kind,
    datasource: source,
    targets: queries.map(({ expr, legend }, position) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + position),
      datasource: source,
      expr,
      legendFormat: legend,
      ...(kind === "heatmap" ? { format: "heatmap" } : {}),
    })),
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options:
      kind === "heatmap"
        ? { calculate: false, yAxis: { unit }, color: { scheme: "Oranges", steps: 64 } }
        : kind === "stat"
          ? { reduceOptions: { calcs: ["lastNotNull"] } }
          : { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi" } },
  };
}

/** What the table says of the metrics that a panel shows. */
function meaningsOf(queries: readonly Query[]): string {
  const names = new Set(queries.flatMap(({ expr }) => metricsIn(expr)));
  return [...names].map((name) => metricsTable[name].meaning).join(" ");
}

/** The metrics that a query names, by the names of the table. Throws for one that there is not. */
export function metricsIn(expr: string): MetricName[] {
  return (expr.match(/\bskim_[a-z_]+/g) ?? []).map((found) => {
    const isKnown = (name: string): name is MetricName => Object.hasOwn(metricsTable, name);
    const whole = found.replace(/_(bucket|sum|count)$/, "");
    if (isKnown(found) && metricsTable[found].type !== "histogram") return found;
    if (isKnown(whole) && metricsTable[whole].type === "histogram" && whole !== found) return whole;
    throw new Error(`there is no metric ${found}`);
  });
}
