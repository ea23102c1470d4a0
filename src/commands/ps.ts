import type { Command } from "commander";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatBytes, formatTable } from "./format.js";

export function addPsCommand(program: Command): void {
  const command = program.command("ps").description("what is mounted");
  withCommonOptions(command);
  command.action(async (options: CommonOptions) => {
    const { listMounts } = await import("../mount/mount-stats.js");
    const context = createContext(options);
    const mounts = await listMounts(context.settings.runDir);
    const rows = mounts.map((mount) => [
      mount.id,
      mount.kind,
      mount.alive ? String(mount.pid) : "dead",
      mount.reference,
      mount.lower,
    ]);
    context.print(mounts, () => formatTable([["ID", "KIND", "SERVER", "IMAGE", "MOUNTED AT"], ...rows]));
  });
}

export function addStatsCommand(program: Command): void {
  const command = program
    .command("stats")
    .description("what a mount has served and fetched")
    .argument("<ID>");
  withCommonOptions(command);
  command.action(async (id: string, options: CommonOptions) => {
    const { readStats } = await import("../control/host.js");
    const context = createContext(options);
    const stats = await readStats(context.settings.runDir, id);
    context.print(stats, () =>
      [
        `image    ${formatBytes(stats.imageBytes)} compressed, archive ${formatBytes(stats.archiveBytes)}`,
        `fetched  ${formatBytes(stats.registry.bytes)} in ${stats.registry.requests} requests`,
        `cached   ${formatBytes(stats.presence.presentCompressedBytes)}${stats.complete ? ", complete" : ""}`,
        ...Object.entries({ ...stats.content, ...stats.operations }).map(
          ([name, value]) => `  ${name} ${value}`,
        ),
      ].join("\n"),
    );
  });
}
