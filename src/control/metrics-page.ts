/** METRICS.md, made from the table of metrics. */
import { type MetricDescription, type MetricName, metricNames, metricsTable } from "./metrics-table.js";

const opening = `# Metrics

What skim tells Prometheus, in its text format and in base units. This page is made from \`src/control/metrics-table.ts\` (\`node scripts/host/generate.mjs\`), and a test holds it
against the code; \`scripts/host/grafana-dashboard.json\` is a dashboard of the same.

- Counters never go down while the process that shows them lives: what a mount has counted is kept when it is unmounted.
- The number of series is bounded, whatever runs on a host. Labels have few values, none is the id of a mount or container. \`image\` is the first 12 digits of the manifest's
  digest: exact where a tag is not. It is only at gauges of what is mounted at the moment, for 100 images at most.
- Buckets of histograms: 0.5 ms to 60 s, which is the deadline of a read.
- A *span* is what is fetched, verified and cached as one, about 1 MiB. A *miss* is a span that a reader waited for the network for: \`skim_read_spans_total{source="network"}\`. The hit ratio
  is the rest: \`1 - rate(skim_read_spans_total{source="network"}[5m]) / ignoring(source) sum without(source) (rate(skim_read_spans_total[5m]))\`.`;

export function metricsMarkdown(): string {
  const rows = metricNames.map((name) => {
    const { type, unit, labels, meaning } = describe(name);
    const named = Object.entries(labels).map(([label, values]) => `\`${label}\`: ${values}`);
    return `| \`${name}\` | ${type} | ${unit === "none" ? "" : unit} | ${named.join("; ")} | ${meaning} |`;
  });
  return `${[opening, "", "| name | type | unit | labels | meaning |", "|---|---|---|---|---|", ...rows].join("\n")}\n`;
}

function describe(name: MetricName): MetricDescription {
  return metricsTable[name];
}
