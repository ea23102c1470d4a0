import type { Command } from "commander";
import { type CommonOptions, createContext, wholeNumber, withCommonOptions } from "./command-context.js";

/** A start that takes longer is looked at in parts. */
const firstSecondsDefault = 10;

type StatsCommandOptions = CommonOptions & { why?: boolean; first: number };

export function addStatsCommand(program: Command): void {
  const command = program
    .command("stats")
    .description("what a mount has served and fetched, what was slow, and what is in flight")
    .argument("<ID>", "of skim ps")
    .option("--why", "where the start went: mount, overlay, network, inflate, waiting; the parts add up")
    .option(
      "--first <seconds>",
      "with --why: how long the start is looked at, from the container's start or the first read on",
      wholeNumber,
      firstSecondsDefault,
    );
  withCommonOptions(command);
  command.action(async (id: string, options: StatsCommandOptions) => {
    const context = createContext(options);
    const { runDir } = context.settings;
    const host = await import("../control/host.js");
    if (options.why) {
      const { startReportText } = await import("./start-report-text.js");
      const start = await host.readStart(runDir, id, options.first * 1000);
      return context.print(start, () => startReportText(start));
    }
    const { statsText } = await import("./stats-text.js");
    const stats = await host.readMountInFull(runDir, id);
    context.print(stats, () => statsText(stats));
  });
}
