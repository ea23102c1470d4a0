import type { Command } from "commander";
import type { CacheReport, ListedLayer } from "../mount/cache-report.js";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatBytes, formatTable, formatTime } from "./format.js";

export function addCacheLsCommand(cache: Command): void {
  const command = cache.command("ls").description("layers in the cache, those used last first");
  withCommonOptions(command);
  command.action(async (options: CommonOptions) => {
    const { describeCache } = await import("../mount/cache-report.js");
    const context = createContext(options);
    const report = await describeCache(context.settings);
    context.print(report, () => reportText(report));
  });
}

function reportText(report: CacheReport): string {
  const header = ["LAYER", "KIND", "ON DISK", "OF", "SPANS", "LAST USED (UTC)", "PINNED BY", "MOUNTED BY"];
  const table = formatTable([header, ...report.layers.map(rowOf)], [2, 3, 4]);
  return [
    ...(report.layers.length > 0 ? [table, ""] : []),
    `layers         ${formatBytes(report.usedBytes)} of at most ${formatBytes(report.bytesMax)}`,
    `archives       ${formatBytes(report.archives.diskBytes)} in ${report.archives.files} files`,
    `layer indexes  ${formatBytes(report.layerIndexes.diskBytes)} in ${report.layerIndexes.files} files`,
    `free           ${formatBytes(report.freeBytes)}, at least ${formatBytes(report.freeBytesMin)} are kept free`,
  ].join("\n");
}

function rowOf(layer: ListedLayer): string[] {
  const known = (value: number | null, text: (known: number) => string) =>
    value === null ? "-" : text(value);
  return [
    layer.digest,
    layer.kind,
    formatBytes(layer.diskBytes),
    known(layer.layerBytes, formatBytes),
    known(layer.spansPresent, (present) => `${present}/${layer.spanCount}`),
    formatTime(Date.parse(layer.lastUsedAt) / 1000),
    layer.pinnedBy.join(",") || "-",
    layer.mounts.join(",") || (layer.inUse ? "(a process)" : "-"),
  ];
}
