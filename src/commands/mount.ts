import { type Command, Option } from "commander";
import { processBeganMs } from "../base/monotonic-clock.js";
import { type FuseEngineName, fuseEngineNames } from "../fuse/engine-names.js";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  ignoreInterrupts,
  serverLogLevel,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";
import { type FetchAheadCommandOptions, fetchAheadRequest, withFetchAheadOptions } from "./fetch-ahead.js";

interface MountCommandOptions extends CommonOptions, FetchAheadCommandOptions {
  platform?: Platform;
  engine?: FuseEngineName;
  traceOperations?: boolean;
  foreground?: boolean;
  source?: string;
  daemon?: boolean;
  id?: string;
}

export function addMountCommand(program: Command): void {
  const command = program
    .command("mount")
    .description("mount an image read-only at an empty directory; returns when the mount answers")
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .argument("<DIR>", "an empty directory")
    .option("--id <id>", "name of the mount (default: a random one)")
    .option("--foreground", "serve from this process until unmounted or interrupted");
  withCommonOptions(withMountOptions(withRegistryOptions(command)));
  command.action(async (image: string, directory: string, options: MountCommandOptions) => {
    const context = createContext(options);
    const request = {
      image,
      directory,
      settings: context.settings,
      progress: context.progress,
      logger: context.logger,
      logLevel: serverLogLevel(context),
      signal: context.signal,
      begunMs: processBeganMs(),
      ...(options.id ? { id: options.id } : {}),
      ...(options.platform ? { platform: options.platform } : {}),
      ...(options.engine ? { engine: options.engine } : {}),
      ...(options.traceOperations ? { traceOperations: true } : {}),
      ...(options.source ? { source: options.source } : {}),
      daemon: options.daemon ?? true,
      ...fetchAheadRequest(options),
    };
    if (options.foreground) {
      const { mountInForeground } = await import("../mount/mount-in-foreground.js");
      return await mountInForeground(request, (mounted) => {
        ignoreInterrupts(true);
        context.print(
          mounted,
          () =>
            `${mounted.reference} is mounted at ${mounted.mountpoint} (id ${mounted.id}); Ctrl-C unmounts`,
        );
      });
    }
    const { mountImage } = await import("../control/host.js");
    const mounted = await mountImage(request);
    context.print(
      mounted,
      () =>
        `${mounted.reference} is mounted at ${mounted.mountpoint}\nid ${mounted.id}, server process ${mounted.pid}, log ${mounted.log}\nunmount with: skim umount ${mounted.mountpoint}`,
    );
  });
}

/** Options of every command that mounts. */
export function withMountOptions(command: Command): Command {
  return withFetchAheadOptions(command)
    .addOption(
      new Option("--engine <engine>", "what speaks FUSE")
        .choices([...fuseEngineNames])
        .default(fuseEngineNames[0]),
    )
    .option("--no-daemon", "with a server of its own, though a daemon runs")
    .option("--trace-operations", "log each FUSE operation by name, in the mount server's log")
    .option(
      "--source <IMAGE>",
      "fetch layers from this image's registry instead of the one that was indexed",
    );
}

export function addUmountCommand(program: Command): void {
  const command = program
    .command("umount")
    .description("undo skim mount; also for a mount whose server has died")
    .argument("<DIR|ID>")
    .option("--force", "also while it is in use: the next access of its users fails");
  withCommonOptions(command);
  command.action(async (directoryOrId: string, options: CommonOptions & { force?: boolean }) => {
    const { umountImage } = await import("../control/host.js");
    const context = createContext(options);
    const result = await umountImage(directoryOrId, {
      settings: context.settings,
      force: options.force ?? false,
    });
    context.print(result, () => "");
  });
}
