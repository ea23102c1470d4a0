/** What `skim stats ID` shows people. */
import { countOf, type HistogramSnapshot } from "../base/histogram.js";
import type { FetchInFlight } from "../content/span-fetcher.js";
import type { MountInFull } from "../mount/explain-mount.js";
import { hitRatio, quantileBound, readSources } from "../mount/mount-figures.js";
import { formatBytes, formatDuration, formatPercent, formatTable } from "./format.js";

/** The JSON has all. */
const slowestShown = 10;
const waitingShown = 5;

type ShownSpan = MountInFull["slowest"][number] | MountInFull["waitingLongest"][number];

export function statsText(stats: MountInFull): string {
  const { presence, registry, content, imageBytes } = stats;
  const served = content.read_bytes_total ?? 0;
  const cached =
    presence.compressedBytes > 0 ? presence.presentCompressedBytes / presence.compressedBytes : 1;
  const rows = [
    [
      "image",
      `${stats.reference}, ${formatBytes(imageBytes)} compressed, archive ${formatBytes(stats.archiveBytes)}`,
    ],
    ["serving", `for ${formatDuration(stats.servingMs)}; was ready after ${formatDuration(stats.readyMs)}`],
    [
      "fetched",
      `${formatBytes(registry.bytes)} in ${registry.requests} requests, ${shareOf(registry.bytes, imageBytes)} of the image`,
    ],
    [
      "served",
      `${formatBytes(served)} in ${content.reads_total ?? 0} reads, ${formatPercent(hitRatio(readSources(stats)))} of their spans at hand`,
    ],
    // The last word is looked for by scripts.
    [
      "cached",
      `${formatBytes(presence.presentCompressedBytes)}, ${formatPercent(cached)} of the image${stats.complete ? ", complete" : ""}`,
    ],
    ["waits", waitsText(stats)],
    ["failures", failuresText(stats)],
    ["requests", operationsText(stats.operations)],
  ];
  const sections = [formatTable(rows)];
  if (stats.mirrors.length > 0) sections.push(section("mirrors", mirrorRows(stats)));
  if (stats.inFlight.length > 0)
    sections.push(section("in flight", stats.inFlight.map(fetchRow), fetchHeading, [1, 4]));
  if (stats.waiting > 0)
    sections.push(
      section(
        `waited for now (${stats.waiting})`,
        stats.waitingLongest.slice(0, waitingShown).map((wait) => [formatDuration(wait.ageMs), nameOf(wait)]),
      ),
    );
  if (stats.slowest.length > 0)
    sections.push(
      section("slowest", stats.slowest.slice(0, slowestShown).map(slowRow), slowHeading, [1, 2, 3, 4, 5]),
    );
  return sections.join("\n\n");
}

function section(
  title: string,
  rows: readonly (readonly string[])[],
  heading?: readonly string[],
  right: readonly number[] = [],
): string {
  const table = formatTable(heading ? [heading, ...rows] : rows, right);
  return `${title}\n${table.replace(/^/gm, "  ")}`;
}

function shareOf(bytes: number, all: number): string {
  return formatPercent(all > 0 ? bytes / all : undefined);
}

function waitsText({ landed }: MountInFull): string {
  const text = (name: string, histogram: HistogramSnapshot) => {
    const [half, most] = [quantileBound(histogram, 0.5), quantileBound(histogram, 0.99)];
    if (half === undefined || most === undefined) return [];
    return `${countOf(histogram)} from ${name} (half ${below(half)}, 99 % ${below(most)})`;
  };
  const parts = (["network", "cache", "memory"] as const).flatMap((name) => text(name, landed[name]));
  return parts.join(", ") || "none";
}

function below(seconds: number): string {
  return Number.isFinite(seconds) ? `below ${formatDuration(seconds * 1000)}` : "above a minute";
}

function failuresText({ content, unserved, evictions }: MountInFull): string {
  const counts = {
    "failed reads": content.read_failures_total ?? 0,
    "waits given up": unserved,
    retries: content.retries_total ?? 0,
    "wrong bytes": content.verification_failures_total ?? 0,
    "cache writes": content.cache_write_failures_total ?? 0,
    "evicted layers": evictions.layers,
    "evicted spans": evictions.spans,
  };
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.map(([name, count]) => `${count} ${name}`).join(", ") || "none";
}

function operationsText(operations: Readonly<Record<string, number>>): string {
  const some = Object.entries(operations).filter(([, count]) => count > 0);
  const most = some.sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`);
  return most.join(", ") || "none";
}

function mirrorRows({ mirrors }: MountInFull): string[][] {
  return mirrors.map(({ name, state, restMs, reason, missingBlobs, wrongBlobs }) => {
    const lacks = [
      ...(missingBlobs > 0 ? [`${missingBlobs} blobs missing`] : []),
      ...(wrongBlobs > 0 ? [`${wrongBlobs} blobs wrong`] : []),
    ];
    const rest = restMs === undefined ? "" : ` for ${formatDuration(restMs)}: ${reason}`;
    return [name, `${state}${rest}`, lacks.join(", ")];
  });
}

const fetchHeading = ["FOR", "AGE", "DOING", "HOST", "ARRIVED", "ATTEMPT", "SPANS"];

function fetchRow(run: FetchInFlight): string[] {
  const readers = run.waiting > 0 ? `${run.waiting} readers` : run.urgency;
  return [
    readers,
    formatDuration(run.ageMs),
    run.phase,
    run.host ?? "-",
    `${formatBytes(run.arrivedBytes)} of ${formatBytes(run.requestedBytes)}`,
    String(run.attempt),
    `${run.layer.slice(0, 19)} ${run.spanNext}-${run.spanEnd - 1}`,
  ];
}

const slowHeading = ["AT", "TOOK", "NETWORK", "INFLATE", "QUEUE", "BYTES", "FROM", "FILE"];

function slowRow(wait: MountInFull["slowest"][number]): string[] {
  return [
    wait.at.slice(0, 23).replace("T", " "),
    formatDuration(wait.ms),
    formatDuration(wait.networkMs),
    formatDuration(wait.inflateMs),
    formatDuration(wait.queueMs),
    formatBytes(wait.compressedBytes),
    wait.source,
    nameOf(wait),
  ];
}

function nameOf({ file, layer, span }: ShownSpan): string {
  if (!file) return `${layer.slice(0, 19)} span ${span}`;
  return file.others > 0 ? `${file.path} and ${file.others} more` : file.path;
}
