import path from "node:path";
import { z } from "zod";
import { SkimError } from "./errors.js";
import { limits } from "./limits.js";

/**
 * Every setting that more than one room reads, with its default and its environment variable. The order of precedence is: flag or
 * option of the call, environment, default.
 */
const settingsSchema = z.object({
  /** Holds archives, layer indexes and cached spans. May be deleted at any time; nothing in it is needed. */
  cacheDir: z.string().min(1).default("/var/lib/skim"),
  /** Records of what is mounted, locks, logs of mount servers. On a tmpfs: it must not survive a reboot, as mounts do not. */
  runDir: z.string().min(1).default("/run/skim"),
  spanBytes: z.coerce
    .number()
    .int()
    .min(limits.spanBytesMin)
    .max(limits.spanBytesMax)
    .default(limits.spanBytesDefault),
  /** One attempt of a registry request, to the first byte of the answer and between two pieces of its body. */
  attemptTimeoutMs: z.coerce.number().int().positive().default(15_000),
  /** A read of a mount: all attempts together; after it the reader gets EIO. Below the 120 s hung task warning of the kernel. */
  readDeadlineMs: z.coerce.number().int().positive().default(60_000),
  /** Spans kept in memory for reads that follow at once and for hosts without a usable cache directory. */
  memoryCacheBytes: z.coerce
    .number()
    .int()
    .nonnegative()
    .default(64 * 1024 * 1024),
  /** Registries that are spoken to over plain http:// (loopback always may). Comma-separated in the environment. */
  insecureRegistries: z
    .preprocess(
      (value) => (typeof value === "string" ? value.split(",").filter(Boolean) : value),
      z.array(z.string()),
    )
    .default([]),
  layerUncompressedBytesMax: z.coerce.number().int().positive().default(limits.layerUncompressedBytesMax),
  layerEntriesMax: z.coerce.number().int().positive().default(limits.layerEntriesMax),
  layerRatioMax: z.coerce.number().positive().default(limits.layerRatioMax),
});

export type Settings = z.infer<typeof settingsSchema>;
export type SettingsInput = Partial<Settings>;

export const settingEnvironment: Readonly<Record<keyof Settings, string>> = {
  cacheDir: "SKIM_CACHE_DIR",
  runDir: "SKIM_RUN_DIR",
  spanBytes: "SKIM_SPAN_BYTES",
  attemptTimeoutMs: "SKIM_ATTEMPT_TIMEOUT_MS",
  readDeadlineMs: "SKIM_READ_DEADLINE_MS",
  memoryCacheBytes: "SKIM_MEMORY_CACHE_BYTES",
  insecureRegistries: "SKIM_INSECURE_REGISTRIES",
  layerUncompressedBytesMax: "SKIM_LAYER_UNCOMPRESSED_BYTES_MAX",
  layerEntriesMax: "SKIM_LAYER_ENTRIES_MAX",
  layerRatioMax: "SKIM_LAYER_RATIO_MAX",
};

/** Joins options, environment and defaults. Throws USAGE naming the setting that does not fit. */
export function resolveSettings(
  options: SettingsInput = {},
  environment: NodeJS.ProcessEnv = process.env,
): Settings {
  const given: Record<string, unknown> = {};
  for (const [key, variable] of Object.entries(settingEnvironment)) {
    const value = options[key as keyof Settings] ?? environment[variable];
    if (value !== undefined && value !== "") given[key] = value;
  }
  const parsed = settingsSchema.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const key = String(issue?.path[0] ?? "settings") as keyof Settings;
    throw new SkimError(
      "USAGE",
      `setting ${key} (${settingEnvironment[key] ?? "environment"}) cannot be used: ${issue?.message}`,
    );
  }
  return {
    ...parsed.data,
    cacheDir: path.resolve(parsed.data.cacheDir),
    runDir: path.resolve(parsed.data.runDir),
  };
}
