import type { Command } from "commander";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";

export function addCachePinCommands(cache: Command): void {
  const pin = cache
    .command("pin")
    .description("never evict the layers of an image, whatever the limits say")
    .argument(
      "<IMAGE|ARCHIVE|DIGEST>",
      "an image (indexed first if need be), or the digest of one, or of a layer",
    );
  withCommonOptions(withRegistryOptions(pin));
  pin.action(async (name: string, options: CommonOptions & { platform?: Platform }) => {
    const { pinImage } = await import("../mount/pin-image.js");
    const context = createContext(options);
    const pinned = await pinImage(name, context.settings.cacheDir, {
      settings: context.settings,
      progress: context.progress,
      logger: context.logger,
      signal: context.signal,
      ...(options.platform ? { platform: options.platform } : {}),
    });
    context.print(pinned, () => `${name} is pinned; undo it with: skim cache unpin ${name}`);
  });

  const unpin = cache
    .command("unpin")
    .description("let the layers of an image be evicted again")
    .argument("<NAME>", "as it was given to skim cache pin");
  withCommonOptions(unpin);
  unpin.action(async (name: string, options: CommonOptions) => {
    const { removePin } = await import("../cache/pins.js");
    const context = createContext(options);
    await removePin(context.settings.cacheDir, name);
    context.print({ name }, () => "");
  });
}
