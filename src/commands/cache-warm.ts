import type { Command } from "commander";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";
import { formatBytes } from "./format.js";

/** `cache`: the command whose subcommand it becomes. */
export function addWarmCommand(cache: Command): void {
  const command = cache
    .command("warm")
    .description(
      "fetch all of an image into the cache: afterwards its registry is not needed, but to look up a tag",
    )
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .option(
      "--source <IMAGE>",
      "fetch layers from this image's registry instead of the one that was indexed",
    );
  withCommonOptions(withRegistryOptions(command));
  command.action(async (image: string, options: CommonOptions & { platform?: Platform; source?: string }) => {
    const { warmImage } = await import("../mount/warm-image.js");
    const context = createContext(options);
    const warmed = await warmImage({
      image,
      settings: context.settings,
      progress: context.progress,
      logger: context.logger,
      signal: context.signal,
      ...(options.platform ? { platform: options.platform } : {}),
      ...(options.source ? { source: options.source } : {}),
    });
    context.print(
      warmed,
      () =>
        `${warmed.reference} is complete: ${formatBytes(warmed.compressedBytes)} compressed, ${formatBytes(warmed.fetchedBytes)} of them fetched now`,
    );
  });
}
