import type { Command } from "commander";
import { createContext, withCommonOptions } from "./command-context.js";
import { rootfsRequest, withRootfsOptions } from "./rootfs.js";
import { type ContainerCommandOptions, containerRequest, withContainerOptions } from "./run.js";

export function addBundleCommand(program: Command): void {
  const command = program
    .command("bundle")
    .description(
      "make an OCI bundle with a lazily mounted rootfs: DIR/config.json and DIR/rootfs, for a runtime of your own",
    )
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .argument("<DIR>", "made, or empty")
    .argument("[ARGS...]", "behind --: the command, instead of the image's")
    .option("--id <id>", "name of the rootfs (default: a random one); undo with: skim rootfs umount ID");
  withCommonOptions(withContainerOptions(withRootfsOptions(command)));
  command.action(
    async (
      image: string,
      directory: string,
      args: string[],
      options: ContainerCommandOptions & { id?: string },
    ) => {
      const { makeBundle } = await import("../control/host.js");
      const context = createContext(options);
      const bundle = await makeBundle({
        ...rootfsRequest(image, options, context),
        ...containerRequest(args, options),
        terminal: options.tty ?? false,
        directory,
        ...(options.id ? { id: options.id } : {}),
      });
      context.print(
        bundle,
        () =>
          `bundle  ${bundle.bundle}\nid      ${bundle.id}\nrun     ${options.runtime} run --bundle ${bundle.bundle} ${bundle.id}\nundo    skim rootfs umount ${bundle.id}`,
      );
    },
  );
}
