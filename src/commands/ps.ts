import type { Command } from "commander";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatTable } from "./format.js";

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
