/** Metrics as Prometheus reads them (text format 0.0.4), of a host as it was observed. Each call has a registry of its own: nothing is kept, and no default metric is among them. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { countOf, type HistogramSnapshot } from "../base/histogram.js";
import { skimVersion } from "../base/version.js";
import type { Urgency } from "../content/traffic.js";
import type { MountState, ObservedMount } from "../mount/observe-mounts.js";
import type { HostObservations } from "./host-observer.js";
import { type MetricName, metricsTable } from "./metrics-table.js";
import { plainCounters } from "./mount-totals.js";

/** Of `renderMetrics`, for the header of an answer. */
export const metricsContentType = Registry.PROMETHEUS_CONTENT_TYPE;

/** Images that have a series of their own; more are counted together. A host with more than that at a time is seen no better by more lines. */
const imagesMax = 100;
const digestDigits = 12;

const mountStates: readonly MountState[] = ["serving", "stuck", "silent", "dead"];
const urgencies: readonly Urgency[] = ["demand", "ahead", "fill"];
const mirrorStates = { in_use: "in use", resting: "resting", on_trial: "on trial" } as const;

type NameOf<Type extends string> = {
  [Name in MetricName]: (typeof metricsTable)[Name]["type"] extends Type ? Name : never;
}[MetricName];
type Labels = Readonly<Record<string, string>>;
type Series = readonly (readonly [Labels, number])[];

export async function renderMetrics(host: HostObservations): Promise<string> {
  const page = new MetricsPage();
  const { mounts, totals } = host;
  page.gauge("skim_build_info", [[{ version: skimVersion }, 1]]);
  renderMounts(page, mounts);
  page.counter("skim_mounts_started_total", [[{}, host.mountsStarted]]);
  page.counter("skim_mount_failures_total", [[{}, host.mountFailures]]);
  page.counter("skim_server_restarts_total", [[{}, host.serverRestarts]]);
  page.histogram("skim_mount_ready_seconds", [[{}, host.readySeconds]]);

  for (const name of plainCounters) page.counter(name, [[{}, totals.counters[name]]]);
  page.counter("skim_read_spans_total", labelled("source", totals.readSpans));
  page.histogram("skim_span_wait_seconds", labelled("source", totals.landed));
  page.histogram("skim_span_wait_phase_seconds", labelled("phase", totals.phases));
  page.counter("skim_fuse_requests_total", labelled("operation", totals.operations));

  const { cache } = host;
  page.gauge("skim_cache_bytes", cache ? [[{}, cache.usedBytes]] : []);
  page.gauge("skim_cache_limit_bytes", cache ? [[{}, cache.bytesMax]] : []);
  page.gauge("skim_cache_filesystem_free_bytes", cache ? [[{}, cache.freeBytes]] : []);
  return await page.text();
}

/** What is of this moment. */
function renderMounts(page: MetricsPage, mounts: readonly ObservedMount[]): void {
  const answering = mounts.flatMap(({ stats }) => stats ?? []);
  const count = <Of>(of: readonly Of[], is: (one: Of) => boolean) => of.filter(is).length;
  page.gauge(
    "skim_mounts",
    mountStates.map((state) => [{ state }, count(mounts, (mount) => mount.state === state)]),
  );
  const images = byImage(answering);
  page.gauge(
    "skim_image_mounts",
    images.map(({ image, mounts: of }) => [{ image }, of.length]),
  );
  page.gauge(
    "skim_image_present_ratio",
    images.map(({ image, mounts: of }) => [{ image }, presentRatio(of)]),
  );
  page.gauge("skim_waiting_spans", [[{}, answering.reduce((sum, { waiting }) => sum + waiting, 0)]]);
  const ages = answering.flatMap(({ waitingLongest }) => waitingLongest.map(({ ageMs }) => ageMs));
  page.gauge("skim_waiting_longest_seconds", [
    [{}, ages.reduce((most, age) => Math.max(most, age), 0) / 1000],
  ]);
  const runs = answering.flatMap(({ inFlight }) => inFlight);
  page.gauge(
    "skim_fetches_in_flight",
    urgencies.map((urgency) => [{ urgency }, count(runs, (run) => run.urgency === urgency)]),
  );
  const mirrors = answering.flatMap((stats) => stats.mirrors);
  page.gauge(
    "skim_mirrors",
    Object.entries(mirrorStates).map(([state, is]) => [
      { state },
      count(mirrors, (mirror) => mirror.state === is),
    ]),
  );
}

type Answering = NonNullable<ObservedMount["stats"]>;

/** Those with the most mounts have a line of their own. */
function byImage(mounts: readonly Answering[]): { image: string; mounts: Answering[] }[] {
  const found = new Map<string, Answering[]>();
  for (const stats of mounts) {
    const image = stats.manifestDigest.replace(/^.*:/, "").slice(0, digestDigits);
    const same = found.get(image);
    if (same) same.push(stats);
    else found.set(image, [stats]);
  }
  const most = [...found].map(([image, of]) => ({ image, mounts: of }));
  most.sort((a, b) => b.mounts.length - a.mounts.length || (a.image < b.image ? -1 : 1));
  const others = most.slice(imagesMax).flatMap(({ mounts: of }) => of);
  return [...most.slice(0, imagesMax), ...(others.length > 0 ? [{ image: "other", mounts: others }] : [])];
}

/** Mounts of one image have the same cache. */
function presentRatio(mounts: readonly Answering[]): number {
  const sum = (of: (stats: Answering) => number) => mounts.reduce((total, stats) => total + of(stats), 0);
  const all = sum(({ presence }) => presence.compressedBytes);
  return all > 0 ? sum(({ presence }) => presence.presentCompressedBytes) / all : 1;
}

function labelled<Value>(label: string, values: Readonly<Record<string, Value>>): [Labels, Value][] {
  return Object.entries(values).map(([value, of]) => [{ [label]: value }, of]);
}

/** Puts values under the names of the table, with its help and labels. */
class MetricsPage {
  readonly #registry = new Registry();

  counter(name: NameOf<"counter">, series: Series): void {
    const counter = new Counter(this.#describe(name));
    for (const [labels, value] of series) counter.inc(labels, value);
  }

  gauge(name: NameOf<"gauge">, series: Series): void {
    const gauge = new Gauge(this.#describe(name));
    for (const [labels, value] of series) gauge.set(labels, value);
  }

  histogram(name: NameOf<"histogram">, series: readonly (readonly [Labels, HistogramSnapshot])[]): void {
    this.#registry.registerMetric(new CountedHistogram(this.#describe(name), series));
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #describe(name: MetricName) {
    const { meaning, labels } = metricsTable[name];
    return { name, help: meaning, labelNames: Object.keys(labels), registers: [this.#registry] };
  }
}

/** One whose values were counted elsewhere: prom-client's own takes them one by one. */
class CountedHistogram extends Histogram {
  readonly #description: { readonly name: string; readonly help: string };
  readonly #values: CountedValue[];

  constructor(
    description: { name: string; help: string; labelNames: string[] },
    series: readonly (readonly [Labels, HistogramSnapshot])[],
  ) {
    super({ ...description, registers: [] });
    const { name, help } = description;
    this.#description = { name, help };
    this.#values = series.flatMap(([labels, histogram]) => {
      const value = (metricName: string, more: Labels, of: number) => ({
        metricName,
        labels: { ...labels, ...more },
        value: of,
      });
      let below = 0;
      const buckets = histogram.bounds.map((bound, position) => {
        below += histogram.counts[position]!;
        return value(`${name}_bucket`, { le: String(bound) }, below);
      });
      const all = countOf(histogram);
      return [
        ...buckets,
        value(`${name}_bucket`, { le: "+Inf" }, all),
        value(`${name}_sum`, {}, histogram.sum),
        value(`${name}_count`, {}, all),
      ];
    });
  }

  /** What a registry, and `get`, ask for. */
  async getForPromString() {
    return { ...this.#description, type: "histogram", values: this.#values, aggregator: "sum" };
  }
}

interface CountedValue {
  readonly metricName: string;
  readonly labels: Labels;
  readonly value: number;
}
