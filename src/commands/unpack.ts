import { type Command, Option } from "commander";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withPlatformOption,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatBytes } from "./format.js";

interface UnpackOptions extends CommonOptions {
  mode: "auto" | "copy" | "extract";
  platform?: Platform;
}

export function addUnpackCommand(program: Command): void {
  const command = program
    .command("unpack")
    .description("unpack an image into a directory: all of it, for a start without a mount")
    .argument("<IMAGE>", "[docker://]registry/repo[:tag][@digest], or oci:DIR[:tag]")
    .argument("<DIR>", "becomes the root directory: new, empty, or unpacked before")
    .addOption(
      new Option(
        "--mode <mode>",
        "copy: from a store of layers in the cache directory, shared by images; extract: straight into DIR; auto: copy where the store can be used",
      )
        .choices(["auto", "copy", "extract"])
        .default("auto"),
    );
  withCommonOptions(withRegistryHostOptions(withPlatformOption(command)));
  command.action(async (image: string, directory: string, options: UnpackOptions) => {
    const { unpackImage } = await import("../mount/unpack-image.js");
    const context = createContext(options);
    const unpacked = await unpackImage({
      image,
      directory,
      mode: options.mode,
      settings: context.settings,
      progress: context.progress,
      logger: context.logger,
      signal: context.signal,
      ...(options.platform ? { platform: options.platform } : {}),
    });
    for (const warning of unpacked.warnings) process.stderr.write(`skim: warning: ${warning}\n`);
    context.print(unpacked, () =>
      unpacked.unchanged
        ? `${unpacked.directory} has ${unpacked.manifestDigest} already`
        : [
            `directory ${unpacked.directory}`,
            `manifest  ${unpacked.manifestDigest} (${unpacked.platform})`,
            `files     ${unpacked.files}, ${formatBytes(unpacked.sharedBytes)} shared with the store, ${formatBytes(unpacked.copiedBytes)} copied`,
            `fetched   ${formatBytes(unpacked.fetchedBytes)} in ${unpacked.durationMs} ms`,
            `mode      ${unpacked.mode} (${unpacked.reason})`,
          ].join("\n"),
    );
  });
}
