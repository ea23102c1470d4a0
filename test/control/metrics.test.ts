import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it, test } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { grafanaDashboard, metricsIn } from "../../src/control/grafana-dashboard.js";
import { HostObserver } from "../../src/control/host-observer.js";
import { renderMetrics } from "../../src/control/metrics.js";
import { metricsMarkdown } from "../../src/control/metrics-page.js";
import { type MetricDescription, metricNames, metricsTable } from "../../src/control/metrics-table.js";
import type { ObservedMount } from "../../src/mount/observe-mounts.js";
import { makeTempDir } from "../support/temp-dir.js";
import { digestNumbered, observed, times } from "./observed.js";
import { type ParsedMetric, parseMetrics } from "./prometheus-text.js";

const root = path.resolve(import.meta.dirname, "../..");

/** A host whose mounts are what a test says they are; scraped as often as it likes. */
async function scraped(): Promise<(mounts: readonly ObservedMount[]) => Promise<Map<string, ParsedMetric>>> {
  const cacheDir = await makeTempDir("metrics");
  let now: readonly ObservedMount[] = [];
  const observer = new HostObserver({
    settings: resolveSettings({ cacheDir, runDir: cacheDir }, {}, "/dev/null"),
    mounts: async () => now,
  });
  return async (mounts) => {
    now = mounts;
    return parseMetrics(await renderMetrics(await observer.look()));
  };
}

const sampleOf = (metrics: Map<string, ParsedMetric>, sample: string) =>
  metrics.get(sample.replace(/[{].*$/, "").replace(/_(bucket|sum|count)$/, ""))?.samples.get(sample);

const busy = () =>
  observed("job-7f3a", {
    content: {
      reads_total: 7,
      read_bytes_total: 4096,
      network_spans_total: 3,
      disk_spans_total: 5,
      memory_spans_total: 1,
      fetched_bytes_total: 2048,
      fetch_requests_total: 2,
      retries_total: 1,
    },
    operations: { read: 7, lookup: 40, statx: 1 },
    landed: { memory: times(0.0001), cache: times(0.004), network: times(0.04, 0.3, 61) },
    phases: { network: times(0.03, 0.2, 60), inflate: times(0.01, 0.1, 1), queue: times(0, 0, 0) },
    unserved: 2,
    waiting: 1,
    waitingLongest: [{ layer: digestNumbered(9), span: 4, ageMs: 1500 }],
    mirrors: [{ name: "m.test", state: "resting", restMs: 5, reason: "x", missingBlobs: 0, wrongBlobs: 0 }],
  });

describe("what is rendered", () => {
  it("is every metric of the table, with its type, help and labels", async () => {
    const metrics = await (await scraped())([busy()]);
    expect([...metrics.keys()].sort()).toEqual([...metricNames].sort());
    for (const name of metricNames) {
      const described: MetricDescription = metricsTable[name];
      const { type, help, samples } = metrics.get(name)!;
      expect([name, type, help]).toEqual([name, described.type, described.meaning]);
      const allowed = [...Object.keys(described.labels), ...(type === "histogram" ? ["le"] : [])];
      for (const sample of samples.keys())
        for (const [, label] of sample.matchAll(/([a-z_]+)="/g)) expect(allowed, sample).toContain(label);
    }
  });

  it("has the values of the mounts", async () => {
    const metrics = await (await scraped())([busy(), observed("other", { content: { reads_total: 3 } })]);
    const values = {
      'skim_mounts{state="serving"}': 2,
      'skim_mounts{state="dead"}': 0,
      "skim_reads_total{}": 10,
      "skim_served_bytes_total{}": 4096,
      "skim_fetched_bytes_total{}": 2048,
      'skim_read_spans_total{source="network"}': 3,
      'skim_read_spans_total{source="cache"}': 5,
      'skim_fuse_requests_total{operation="lookup"}': 40,
      'skim_span_wait_seconds_bucket{source="network",le="0.05"}': 1,
      'skim_span_wait_seconds_bucket{source="network",le="0.5"}': 2,
      'skim_span_wait_seconds_bucket{source="network",le="60"}': 2,
      'skim_span_wait_seconds_bucket{source="network",le="+Inf"}': 3,
      'skim_span_wait_seconds_sum{source="network"}': 61.34,
      'skim_span_wait_seconds_count{source="network"}': 3,
      'skim_span_wait_phase_seconds_count{phase="inflate"}': 3,
      "skim_span_waits_unserved_total{}": 2,
      "skim_waiting_spans{}": 1,
      "skim_waiting_longest_seconds{}": 1.5,
      'skim_mirrors{state="resting"}': 1,
      "skim_mount_ready_seconds_count{}": 2,
      "skim_mounts_started_total{}": 2,
    };
    for (const [sample, value] of Object.entries(values))
      expect([sample, sampleOf(metrics, sample)]).toEqual([sample, value]);
    expect(sampleOf(metrics, "skim_cache_filesystem_free_bytes{}")).toBeGreaterThan(0);
  });

  it("does not grow with mounts and images, and names no mount", async () => {
    const scrape = await scraped();
    const many = Array.from({ length: 300 }, (_, number) =>
      observed(`container-${number}`, { manifestDigest: digestNumbered(number + 1) }),
    );
    const metrics = await scrape(many);
    const samples = [...metrics.values()].flatMap(({ samples: of }) => [...of.keys()]);
    expect(samples.filter((sample) => sample.includes("container-"))).toEqual([]);
    const images = [...metrics.get("skim_image_mounts")!.samples];
    expect(images).toHaveLength(101);
    expect(images.find(([sample]) => sample.includes('"other"'))?.[1]).toBe(200);
    expect(images.reduce((sum, [, value]) => sum + value, 0)).toBe(300);
    // Images that were mounted once have no series any more.
    expect((await scrape([])).get("skim_image_mounts")!.samples.size).toBe(0);
  });
});

describe("counters never go down", () => {
  const counters = (metrics: Map<string, ParsedMetric>) =>
    new Map(
      [...metrics.values()].filter(({ type }) => type !== "gauge").flatMap(({ samples }) => [...samples]),
    );

  it("whatever becomes of the mounts", async () => {
    const scrape = await scraped();
    const more = (factor: number, stats: Parameters<typeof observed>[1] = {}) =>
      observed("a", {
        content: { reads_total: factor },
        landed: { ...busy().stats.landed, cache: times(...new Array(factor).fill(1)) },
        ...stats,
      });
    const scenes: ObservedMount[][] = [
      [busy()],
      [busy(), more(3)],
      // Does not answer.
      [{ ...busy(), stats: undefined, state: "silent" } as unknown as ObservedMount, more(4)],
      // Another server has taken it over, and has counted from 0 on.
      [busy(), more(1, { servingSinceMs: 9000 })],
      // Unmounted.
      [busy()],
      // Mounted again under the same id.
      [busy(), { ...more(1, { servingSinceMs: 12_000 }), createdAt: "2026-01-02T00:00:00.000Z" }],
      [],
    ];
    let before = new Map<string, number>();
    let last = new Map<string, ParsedMetric>();
    for (const mounts of scenes) {
      last = await scrape(mounts);
      const now = counters(last);
      for (const [sample, value] of before) expect(now.get(sample), sample).toBeGreaterThanOrEqual(value);
      before = now;
    }
    expect(sampleOf(last, "skim_reads_total{}")).toBe(7 + 4 + 1 + 1);
    expect(sampleOf(last, "skim_server_restarts_total{}")).toBe(1);
    expect(sampleOf(last, "skim_mounts_started_total{}")).toBe(3);
  });

  it("and a cache that mounts share is asked once for what was evicted", async () => {
    const cacheDir = await makeTempDir("metrics");
    const evictions = { layers: 2, spans: 30, bytes: 4000 };
    const observer = new HostObserver({
      settings: resolveSettings({ cacheDir, runDir: cacheDir }, {}, "/dev/null"),
      mounts: async () => [observed("a", { evictions }), observed("b", { evictions })],
      evictions: () => evictions,
    });
    const metrics = parseMetrics(await renderMetrics(await observer.look()));
    expect(sampleOf(metrics, "skim_evicted_spans_total{}")).toBe(30);
  });

  it("and the last word of a mount that ends is counted", async () => {
    const cacheDir = await makeTempDir("metrics");
    const settings = resolveSettings({ cacheDir, runDir: cacheDir }, {}, "/dev/null");
    let now: ObservedMount[] = [observed("a", { content: { reads_total: 1 } })];
    const observer = new HostObserver({ settings, mounts: async () => now });
    await observer.look();
    const { createdAt, stats } = observed("a", { content: { reads_total: 9 } });
    observer.ledger.ended("a", createdAt, stats);
    now = [];
    const metrics = parseMetrics(await renderMetrics(await observer.look()));
    expect(sampleOf(metrics, "skim_reads_total{}")).toBe(9);
    expect(sampleOf(metrics, "skim_mounts_started_total{}")).toBe(1);
  });
});

describe("the reader of the text format", () => {
  const counter = "# HELP a_total A.\n# TYPE a_total counter\n";
  const histogram = "# HELP h H.\n# TYPE h histogram\n";
  it.each([
    ["no HELP", "# TYPE a_total counter\na_total 1\n"],
    ["no TYPE", "# HELP a_total A.\na_total 1\n"],
    ["a sample twice", `${counter}a_total 1\na_total 1\n`],
    ["another's sample", `${counter}b_total 1\n`],
    ["a counter below zero", `${counter}a_total -1\n`],
    ["no number", `${counter}a_total one\n`],
    ["a bad label", `${counter}a_total{x=1} 1\n`],
    ["no end of the line", `${counter}a_total 1`],
    ["buckets that fall", `${histogram}h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`],
    ["no bucket for all", `${histogram}h_bucket{le="1"} 2\nh_sum 1\nh_count 2\n`],
    ["another count", `${histogram}h_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n`],
  ])("refuses %s", (_, text) => {
    expect(() => parseMetrics(text)).toThrow();
  });
});

describe("names", () => {
  test("have the unit of the table and say what is a counter", () => {
    for (const name of metricNames) {
      const { type, unit, meaning }: MetricDescription = metricsTable[name];
      const [, suffix] = /_(seconds|bytes|ratio)(?:_total)?$/.exec(name) ?? [];
      expect([name, suffix ?? "none"]).toEqual([name, unit]);
      expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"]);
      expect(meaning).toMatch(/\.$/);
    }
  });
});

describe("what is made from the table (node scripts/host/generate.mjs writes it)", () => {
  it("METRICS.md", () => {
    expect(readFileSync(path.join(root, "METRICS.md"), "utf8")).toBe(metricsMarkdown());
  });

  it("the dashboard", () => {
    const file = path.join(root, "scripts/host/grafana-dashboard.json");
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(grafanaDashboard());
  });

  it("the dashboard names every metric, and none that there is not", () => {
    const named = new Set(panels().flatMap(({ targets }) => targets.flatMap(({ expr }) => metricsIn(expr))));
    expect([...named].sort()).toEqual([...metricNames].sort());
    expect(() => metricsIn("rate(skim_reads[5m])")).toThrow(/no metric skim_reads/);
    expect(() => metricsIn("rate(skim_span_wait_seconds[5m])")).toThrow(/no metric/);
  });

  it("the dashboard's panels have queries and a place of their own, and counters are not shown as they are", () => {
    const taken = new Set<string>();
    const ids = panels().map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { title, type, description, targets, gridPos } of panels()) {
      expect([title, ["timeseries", "heatmap", "stat"].includes(type)]).toEqual([title, true]);
      expect(description.length, title).toBeGreaterThan(0);
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.has(`${x},${y}`), title).toBe(false);
          taken.add(`${x},${y}`);
        }
      expect(targets.length, title).toBeGreaterThan(0);
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
      for (const { expr } of targets) {
        expect(balanced(expr), expr).toBe(true);
        for (const [selected] of expr.matchAll(/skim_\w+(_total|_bucket|_sum|_count)\{[^}]*\}\S*/g))
          expect(selected, expr).toMatch(/\[\$__rate_interval\]/);
        for (const [selected] of expr.matchAll(/skim_\w+(?:\{[^}]*\})?/g))
          expect(selected).toContain('instance=~"$instance"');
      }
    }
  });
});

interface DashboardPanel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly description: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly refId: string; readonly expr: string }[];
}

function panels(): readonly DashboardPanel[] {
  return (grafanaDashboard() as { panels: DashboardPanel[] }).panels;
}

/** Brackets of a query, each closed by its own. */
function balanced(expr: string): boolean {
  const open: string[] = [];
  for (const char of expr) {
    if ("({[".includes(char)) open.push(char);
    else if (")}]".includes(char) && open.pop() !== "({["[")}]".indexOf(char)]) return false;
  }
  return open.length === 0;
}
