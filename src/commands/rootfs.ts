import type { Command } from "commander";
import { processBeganMs } from "../base/monotonic-clock.js";
import type { FuseEngineName } from "../fuse/engine-names.js";
import type { Platform } from "../image/platform.js";
import { parseSeedDirectory, type SeedDirectory } from "../overlay/seed-directory.js";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  serverLogLevel,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";
import { type FetchAheadCommandOptions, fetchAheadRequest } from "./fetch-ahead.js";
import { withMountOptions } from "./mount.js";

/** Options of everything that makes a writable rootfs. */
export interface RootfsCommandOptions extends CommonOptions, FetchAheadCommandOptions {
  platform?: Platform;
  engine?: FuseEngineName;
  traceOperations?: boolean;
  source?: string;
  daemon?: boolean;
  upper?: string;
  tmpfsUpper?: boolean;
  dir?: SeedDirectory[];
}

export function addRootfsCommand(program: Command): void {
  const rootfs = program
    .command("rootfs")
    .description("a writable root filesystem for a runtime of your own");
  const mount = rootfs
    .command("mount")
    .description("mount an image lazily with a writable layer on top; prints lower, upper, work and merged")
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .requiredOption("--id <id>", "name of the rootfs")
    .option("--merged <dir>", "where to mount the result (default: a directory of skim's)");
  withCommonOptions(withRootfsOptions(mount));
  mount.action(async (image: string, options: RootfsCommandOptions & { id: string; merged?: string }) => {
    const { mountRootfs } = await import("../control/host.js");
    const context = createContext(options);
    const mounted = await mountRootfs({
      ...rootfsRequest(image, options, context),
      id: options.id,
      ...(options.merged ? { merged: options.merged } : {}),
    });
    context.print(mounted, () =>
      (["id", "lower", "upper", "work", "merged"] as const)
        .map((key) => `${key.padEnd(6)} ${mounted[key]}`)
        .join("\n"),
    );
  });

  const umount = rootfs
    .command("umount")
    .description("undo skim rootfs mount or skim bundle, or what a killed skim run left")
    .argument("<ID>")
    .option("--keep-upper", "leave the writable layer and print where it is")
    .option("--force", "also while it is in use: the next access of its users fails");
  withCommonOptions(umount);
  umount.action(async (id: string, options: CommonOptions & { keepUpper?: boolean; force?: boolean }) => {
    const { umountRootfs } = await import("../control/host.js");
    const context = createContext(options);
    const undone = await umountRootfs(id, {
      settings: context.settings,
      keepUpper: options.keepUpper ?? false,
      force: options.force ?? false,
    });
    context.print(undone, () => (undone.upper ? `upper ${undone.upper}` : ""));
  });
}

export function withRootfsOptions(command: Command): Command {
  return withMountOptions(withRegistryOptions(command))
    .option("--upper <dir>", "writable layer of your own, kept afterwards")
    .option("--tmpfs-upper", "writable layer in memory")
    .option(
      "--dir <path[:mode]>",
      "a directory that must be there (repeatable)",
      (text, before: SeedDirectory[] = []) => [...before, parseSeedDirectory(text)],
    );
}

export function rootfsRequest(image: string, options: RootfsCommandOptions, context: CommandContext) {
  return {
    image,
    settings: context.settings,
    progress: context.progress,
    logger: context.logger,
    logLevel: serverLogLevel(context),
    signal: context.signal,
    begunMs: processBeganMs(),
    dirs: options.dir ?? [],
    tmpfsUpper: options.tmpfsUpper ?? false,
    ...(options.upper ? { upper: options.upper } : {}),
    ...(options.platform ? { platform: options.platform } : {}),
    ...(options.engine ? { engine: options.engine } : {}),
    ...(options.traceOperations ? { traceOperations: true } : {}),
    ...(options.source ? { source: options.source } : {}),
    daemon: options.daemon ?? true,
    ...fetchAheadRequest(options),
  };
}
