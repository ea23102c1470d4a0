import type { Command } from "commander";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";

export function addVerifyCommand(program: Command): void {
  const command = program
    .command("verify")
    .description("check an archive, and what is cached of its image, byte by byte")
    .argument("<ARCHIVE|IMAGE>")
    .option("--fetch", "also fetch what is not cached, and check it")
    .option(
      "--source <IMAGE>",
      "fetch layers from this image's registry instead of the one that was indexed",
    );
  withCommonOptions(withRegistryHostOptions(command));
  command.action(async (name: string, options: CommonOptions & { fetch?: boolean; source?: string }) => {
    const { withArchiveNamed } = await import("./open-named.js");
    const { verifyArchive } = await import("../archive/verify-archive.js");
    const { openImageContent } = await import("../mount/image-content.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, async ({ archive, archiveFile, source }) => {
      const { windows } = await verifyArchive(archive, { label: archiveFile, signal: context.signal });
      const opened = await openImageContent({
        archive,
        source: options.source ?? source,
        settings: context.settings,
        logger: context.logger,
      });
      try {
        const checked = await opened.content.verifyAll({
          fetch: options.fetch ?? false,
          signal: context.signal,
          progress: context.progress,
        });
        const failures = checked.failures.map(({ layer, span, error }) => ({
          layer,
          span,
          error: error.message,
        }));
        context.print({ archive: archiveFile, windows, ...checked, failures }, () =>
          [
            `archive  good: ${archive.inodeCount} inodes, ${archive.spanCount} spans, ${windows} windows`,
            `cache    ${checked.intact} spans good, ${checked.damaged} damaged and dropped`,
            `fetched  ${checked.fetched} spans good, ${failures.length} bad, ${checked.missing} not looked at${options.fetch ? "" : " (--fetch checks them too)"}`,
            ...failures.map(
              (failure) => `bad      span ${failure.span} of ${failure.layer}: ${failure.error}`,
            ),
          ].join("\n"),
        );
        const first = checked.failures[0];
        if (first) throw first.error;
      } finally {
        await opened.close();
      }
    });
  });
}
