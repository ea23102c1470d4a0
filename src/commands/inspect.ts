import type { Command } from "commander";
import type { ArchiveDescription, LayerDescription } from "../archive/inspect-archive.js";
import { platformText } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatBytes, formatTable } from "./format.js";

export function addInspectCommand(program: Command): void {
  const command = program
    .command("inspect")
    .description("what an archive says of its image: layers, restart points, sizes")
    .argument("<ARCHIVE|IMAGE>");
  withCommonOptions(withRegistryHostOptions(command));
  command.action(async (name: string, options: CommonOptions) => {
    const { withArchiveNamed } = await import("./open-named.js");
    const { describeArchive } = await import("../archive/inspect-archive.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, ({ archive, archiveFile }) => {
      const description = describeArchive(archive);
      context.print({ archive: archiveFile, ...description }, () => describe(archiveFile, description));
    });
  });
}

function describe(file: string, description: ArchiveDescription): string {
  const { totals } = description;
  const uncompressed = description.layers.reduce((sum, layer) => sum + layer.uncompressedBytes, 0);
  const counts = [
    `${totals.fileCount} files`,
    `${totals.directoryCount} directories`,
    `${totals.symlinkCount} symlinks`,
    `${totals.characterCount + totals.blockCount} devices`,
    `${totals.fifoCount} FIFOs`,
    `${totals.setuidCount} setuid`,
    description.hasXattrs ? "has xattrs" : "no xattrs",
  ];
  return [
    `archive    ${file}`,
    `reference  ${description.reference}`,
    `manifest   ${description.manifestDigest} (${platformText(description.platform)})`,
    `content    ${counts.join(", ")}; ${formatBytes(totals.fileBytes)} of file data`,
    `size       ${formatBytes(description.archiveBytes)}, ${((100 * description.archiveBytes) / Math.max(uncompressed, 1)).toFixed(2)} % of the uncompressed image: metadata ${formatBytes(description.metadataBytes)}, windows ${formatBytes(description.windowBytes)}`,
    `start      ${describeStart(description.startSet)}`,
    "",
    formatTable(
      [
        ["LAYER", "COMPRESSION", "STORED", "UNCOMPRESSED", "SPANS", "RESTARTS", "READS FETCH"],
        ...description.layers.map(layerRow),
      ],
      [2, 3, 4, 5],
    ),
    ...description.layers.filter(({ access }) => access === "whole").map(wholeLayerNote),
    ...description.warnings.map((warning) => `warning: ${warning}`),
  ].join("\n");
}

function describeStart(set: ArchiveDescription["startSet"]): string {
  if (!set) return "not known: the archive has no start set";
  if (set.spans === 0) return "nothing known of what the image's command needs";
  return `${set.spans} spans, ${formatBytes(set.compressedBytes)} compressed, ${formatBytes(set.uncompressedBytes)} uncompressed, are needed by the image's command`;
}

function layerRow(layer: LayerDescription): string[] {
  return [
    layer.digest.slice(0, "sha256:".length + 12),
    layer.compression,
    formatBytes(layer.compressedBytes),
    formatBytes(layer.uncompressedBytes),
    String(layer.spanCount),
    String(layer.restarts),
    layer.access === "ranges" ? "ranges" : "the whole layer",
  ];
}

function wholeLayerNote(layer: LayerDescription): string {
  return `note: ${layer.digest.slice(0, "sha256:".length + 12)} is one ${layer.compression} stream without restart points: its first read fetches it into the cache whole. Several frames (zstd:chunked, pzstd) or gzip would be read in ranges.`;
}
