import { type Command, InvalidArgumentError } from "commander";
import type { EvictionReport } from "../cache/evictor.js";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatBytes } from "./format.js";

interface GcOptions extends CommonOptions {
  dryRun?: boolean;
  to?: string;
}

export function addCacheGcCommand(cache: Command): void {
  const command = cache
    .command("gc")
    .description("bring the cache within its limits now, and remove what killed processes have left")
    .option("--dry-run", "say what would go, and leave it")
    .option("--to <amount>", "make the layers take at most this, instead of the limit: 5GiB, 10%, 0", amount);
  withCommonOptions(command);
  command.action(async (options: GcOptions) => {
    const { openEvictor, spaceLimits } = await import("../mount/disk-cache.js");
    const { filesystemSpace } = await import("../cache/evictor.js");
    const context = createContext(options);
    const { settings } = context;
    const evictor = openEvictor(settings, context.logger);
    const bytesMax =
      options.to === undefined
        ? undefined
        : spaceLimits({ ...settings, cacheBytesMax: options.to }, await filesystemSpace(settings.cacheDir))
            .bytesMax;
    const run = bytesMax === undefined ? {} : { bytesMax };
    const report = options.dryRun
      ? await evictor.plan(run)
      : await evictor.run({ ...run, wait: true, thorough: true, signal: context.signal });
    if (!report)
      return context.print({ cacheDir: settings.cacheDir, empty: true }, () => "nothing is cached");
    const dryRun = options.dryRun ?? false;
    context.print({ dryRun, ...report }, () => reportText(report, dryRun));
  });
}

/** Checked when it is used: what it may be, parseByteAmount says. */
function amount(text: string): string {
  if (/^\d/.test(text)) return text;
  throw new InvalidArgumentError("an amount of bytes is needed, such as 5GiB or 10%.");
}

function reportText(report: EvictionReport, dryRun: boolean): string {
  const verb = dryRun ? "would go" : "gone";
  const lines = [
    ...report.layers.map(({ kind, digest, bytes }) => `${digest}  ${kind}, ${formatBytes(bytes)} ${verb}`),
    ...report.spans.map(
      ({ digest, spans, bytes }) => `${digest}  in use: ${spans} spans, ${formatBytes(bytes)} ${verb}`,
    ),
    `layers take ${formatBytes(report.usedBytes)} of at most ${formatBytes(report.bytesMax)}, before ${formatBytes(report.usedBytesBefore)}`,
  ];
  if (report.leftovers > 0) lines.push(`${report.leftovers} leftovers of killed processes removed`);
  if (report.waitingBytes > 0)
    lines.push(
      `${formatBytes(report.waitingBytes)} come free when the processes that read them have let go; the next look frees them`,
    );
  if (report.usedBytes - report.waitingBytes > report.bytesMax)
    lines.push("what is left is pinned, or extracted and in use");
  return lines.join("\n");
}
