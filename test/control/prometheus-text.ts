/**
 * A strict reader of the text format 0.0.4, as `promtool check metrics` reads it: HELP, then TYPE, then the samples of that metric, all together; no sample twice; names, labels and
 * values well formed; histograms cumulative, with +Inf, and their count the same as its. Throws what is wrong.
 */
export interface ParsedMetric {
  readonly help: string;
  readonly type: string;
  /** By name and labels, as they are written. */
  readonly samples: Map<string, number>;
}

const sampleLine = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/;

export function parseMetrics(text: string): Map<string, ParsedMetric> {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const metrics = new Map<string, ParsedMetric>();
  let help: { name: string; text: string } | undefined;
  let current: (ParsedMetric & { name: string }) | undefined;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const helpLine = /^# HELP (\S+) (.+)$/.exec(line);
    const typeLine = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (helpLine) help = { name: helpLine[1]!, text: helpLine[2]! };
    else if (typeLine) {
      const [, name, type] = typeLine as unknown as [string, string, string];
      if (help?.name !== name) throw new Error(`TYPE of ${name} without its HELP before it`);
      if (metrics.has(name)) throw new Error(`${name} comes twice`);
      current = { name, help: help.text, type, samples: new Map() };
      metrics.set(name, current);
      help = undefined;
    } else if (line.startsWith("#")) throw new Error(`no such comment: ${line}`);
    else if (!current || help) throw new Error(`a sample without HELP and TYPE: ${line}`);
    else addSample(current, line);
  }
  for (const [name, metric] of metrics) if (metric.type === "histogram") checkHistogram(name, metric);
  return metrics;
}

function addSample(metric: ParsedMetric & { name: string }, line: string): void {
  const [, name, labels = "", value] = sampleLine.exec(line) ?? [];
  if (name === undefined) throw new Error(`no sample: ${line}`);
  const suffixes = metric.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
  if (!suffixes.some((suffix) => name === metric.name + suffix))
    throw new Error(`${name} among ${metric.name}`);
  for (let rest = labels; rest !== ""; ) {
    const found = label.exec(rest);
    if (!found) throw new Error(`labels of ${line}`);
    rest = rest.slice(found[0].length);
  }
  const key = `${name}{${labels}}`;
  if (metric.samples.has(key)) throw new Error(`${key} comes twice`);
  const number = value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value);
  if (Number.isNaN(number)) throw new Error(`value of ${line}`);
  if (metric.type !== "gauge" && number < 0) throw new Error(`below zero: ${line}`);
  metric.samples.set(key, number);
}

function checkHistogram(name: string, { samples }: ParsedMetric): void {
  const series = new Map<string, { bound: number; count: number }[]>();
  for (const [key, count] of samples) {
    const found = /^(.*)_bucket\{(.*,)?le="([^"]+)"(.*)\}$/.exec(key);
    if (!found) continue;
    const of = `${found[2] ?? ""}${found[4] ?? ""}`.replace(/^,|,$/g, "");
    const bound = found[3] === "+Inf" ? Number.POSITIVE_INFINITY : Number(found[3]);
    series.set(of, [...(series.get(of) ?? []), { bound, count }]);
  }
  for (const [labels, buckets] of series) {
    for (const [position, { bound, count }] of buckets.entries()) {
      const before = buckets[position - 1];
      if (before && bound <= before.bound) throw new Error(`${name}: bounds do not ascend`);
      if (before && count < before.count) throw new Error(`${name}: buckets are not cumulative`);
    }
    const last = buckets.at(-1)!;
    if (last.bound !== Number.POSITIVE_INFINITY) throw new Error(`${name}: no bucket +Inf`);
    if (samples.get(`${name}_count{${labels}}`) !== last.count)
      throw new Error(`${name}: count is not that of +Inf`);
    if (samples.get(`${name}_sum{${labels}}`) === undefined) throw new Error(`${name}: no sum`);
  }
}
