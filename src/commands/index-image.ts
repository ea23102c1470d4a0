import type { Command } from "commander";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";
import { formatBytes } from "./format.js";

export function addIndexCommand(program: Command): void {
  const command = program
    .command("index")
    .description(
      "index an image into an archive: every file's metadata, and where its bytes lie in the layers",
    )
    .argument("<IMAGE>", "[docker://]registry/repo[:tag][@digest], or oci:DIR[:tag]")
    .option("-o, --output <file>", "archive to write (default: in the cache directory)");
  withCommonOptions(withRegistryOptions(command));
  command.action(async (image: string, options: CommonOptions & { output?: string; platform?: Platform }) => {
    const { indexImage } = await import("../mount/index-image.js");
    const context = createContext(options);
    const indexed = await indexImage({
      image,
      settings: context.settings,
      progress: context.progress,
      logger: context.logger,
      signal: context.signal,
      ...(options.output ? { output: options.output } : {}),
      ...(options.platform ? { platform: options.platform } : {}),
    });
    const { warnings, ...facts } = indexed;
    for (const warning of warnings) process.stderr.write(`skim: warning: ${warning}\n`);
    context.print(facts, () =>
      [
        `archive   ${indexed.archive}`,
        `manifest  ${indexed.manifestDigest} (${indexed.platform})`,
        `image     ${indexed.layers} ${indexed.layers === 1 ? "layer" : "layers"}, ${indexed.files} files, ${formatBytes(indexed.compressedBytes)} compressed, ${formatBytes(indexed.uncompressedBytes)} uncompressed`,
        `index     ${formatBytes(indexed.archiveBytes)} (${((100 * indexed.archiveBytes) / Math.max(indexed.uncompressedBytes, 1)).toFixed(2)} % of the image) in ${indexed.durationMs} ms`,
        `start     ${indexed.startSpans} spans, ${formatBytes(indexed.startBytes)} compressed`,
      ].join("\n"),
    );
  });
}
