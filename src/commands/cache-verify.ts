import type { Command } from "commander";
import { SkimError } from "../base/errors.js";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { formatBytes } from "./format.js";

export function addCacheVerifyCommand(cache: Command): void {
  const command = cache
    .command("verify")
    .description(
      "read all that is cached and compare it with its digests; exits with 6 where something was damaged",
    )
    .argument("[DIGEST...]", "only these layers (digests or diffIds, as skim cache ls shows them)");
  withCommonOptions(command);
  command.action(async (digests: string[], options: CommonOptions) => {
    const { verifyCache } = await import("../mount/verify-cache.js");
    const context = createContext(options);
    const { cacheDir } = context.settings;
    const { signal, progress } = context;
    const layers = await verifyCache(digests, { cacheDir, signal, progress });
    const sum = (key: "intact" | "damaged" | "bytes") => layers.reduce((total, one) => total + one[key], 0);
    const [intact, damaged, bytes] = [sum("intact"), sum("damaged"), sum("bytes")];
    context.print({ intact, damaged, bytes, layers }, () =>
      [
        ...layers
          .filter((layer) => layer.damaged > 0)
          .map((layer) => `${layer.digest}  ${layer.damaged} damaged and dropped`),
        `${formatBytes(bytes)} read: ${intact} good, ${damaged} damaged and dropped`,
      ].join("\n"),
    );
    if (damaged > 0)
      throw new SkimError(
        "DIGEST_MISMATCH",
        `cache ${cacheDir}: ${damaged} of ${intact + damaged} spans and layers did not have their digest; they are dropped, and fetched again when they are read`,
      );
  });
}
