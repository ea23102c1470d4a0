import type { Command } from "commander";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatTable } from "./format.js";

interface GcOptions extends CommonOptions {
  yes?: boolean;
  all?: boolean;
}

export function addGcCommand(program: Command): void {
  const command = program
    .command("gc")
    .description(
      "show what killed processes have left: mounts, overlays, directories, records; remove it with --yes",
    )
    .option("--yes", "remove it; what is in use stays")
    .option("--all", "with --yes: also writable layers that hold somebody's changes");
  withCommonOptions(command);
  command.action(async (options: GcOptions) => {
    const { cleanUpHost } = await import("../control/clean-up-host.js");
    const context = createContext(options);
    const remove = options.yes ?? false;
    const found = await cleanUpHost(context.settings, { remove, all: options.all ?? false });
    context.print(found, () =>
      found.length === 0
        ? "nothing is left over"
        : formatTable([
            ["KIND", "NAME", remove ? "DONE" : "WOULD BE", "WHY"],
            ...found.map(({ kind, name, why, kept }) => [
              kind,
              name,
              kept ? "kept" : "removed",
              kept ? `${why}; ${kept}` : why,
            ]),
          ]),
    );
  });
}
