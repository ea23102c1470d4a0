import { z } from "zod";
import { parseByteAmount } from "./byte-amount.js";
import { describeError } from "./errors.js";
import { limits } from "./limits.js";
import { mirrorsSchema } from "./mirror-settings.js";

/**
 * Every setting that more than one room reads: what it means, its default, and the names it has in the environment and on the command line. Its name
 * in the settings file is its key. Documentation is made from this table (describeSettings in settings.ts).
 */
interface Setting {
  /** Checks a value from wherever it comes, text included; knows the default. */
  readonly schema: z.ZodType;
  readonly environment: string;
  /** Where the command line has it; most settings need none. */
  readonly flag?: string;
  /** One sentence for people. */
  readonly meaning: string;
}

/** Text from the environment as well as JSON; not what JavaScript makes a number of, as null and true. */
function fromText<Schema extends z.ZodType>(schema: Schema) {
  return z.preprocess(
    (value) => (typeof value === "string" && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value),
    schema,
  );
}

/** Kept as it was written: what a share comes to is known where the cache directory is. */
const byteAmount = z
  .union([z.string(), z.number().int().nonnegative()])
  .transform(String)
  .superRefine((text, context) => {
    try {
      parseByteAmount(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: describeError(error) });
    }
  });

const directory = z.string().min(1);
const positiveWhole = fromText(z.number().int().positive());
const MiB = 1024 * 1024;

export const settingsTable = {
  cacheDir: {
    schema: directory.default("/var/lib/skim"),
    environment: "SKIM_CACHE_DIR",
    flag: "--cache-dir",
    meaning:
      "Archives, layer indexes and cached spans; may be deleted at any time, nothing in it is needed but writable layers.",
  },
  runDir: {
    schema: directory.default("/run/skim"),
    environment: "SKIM_RUN_DIR",
    flag: "--run-dir",
    meaning:
      "Records of what is mounted, locks, logs of mount servers; on a tmpfs, as it must not outlive the mounts.",
  },
  spanBytes: {
    schema: fromText(z.number().int().min(limits.spanBytesMin).max(limits.spanBytesMax)).default(
      limits.spanBytesDefault,
    ),
    environment: "SKIM_SPAN_BYTES",
    flag: "--span-size",
    meaning: "Uncompressed bytes between restart points of a new index.",
  },
  attemptTimeoutMs: {
    schema: positiveWhole.default(15_000),
    environment: "SKIM_ATTEMPT_TIMEOUT_MS",
    meaning:
      "One attempt of a registry request, to the first byte of the answer and between two pieces of its body.",
  },
  mirrorTimeoutMs: {
    schema: positiveWhole.default(5_000),
    environment: "SKIM_MIRROR_TIMEOUT_MS",
    meaning:
      "What a mirror gets for the first 64 KiB of an answer and for each further 64 KiB, before the next one is asked.",
  },
  readDeadlineMs: {
    // Below the 120 s hung task warning of the kernel.
    schema: positiveWhole.default(60_000),
    environment: "SKIM_READ_DEADLINE_MS",
    meaning: "A read of a mount, all attempts together; after it the reader gets EIO.",
  },
  memoryCacheBytes: {
    schema: fromText(z.number().int().nonnegative()).default(64 * MiB),
    environment: "SKIM_MEMORY_CACHE_BYTES",
    meaning:
      "Spans kept in memory for reads that follow at once and for hosts without a usable cache directory.",
  },
  cacheBytesMax: {
    schema: byteAmount.default("50%"),
    environment: "SKIM_CACHE_BYTES_MAX",
    flag: "--cache-bytes-max",
    meaning:
      "All layers in the cache directory together, as blocks on disk: an amount (20GiB) or a share of the filesystem (50%); least recently used bytes go first.",
  },
  cacheFreeBytesMin: {
    schema: z.union([z.literal("auto"), byteAmount]).default("auto"),
    environment: "SKIM_CACHE_FREE_BYTES_MIN",
    flag: "--cache-free-bytes-min",
    meaning:
      "What the cache leaves free on its filesystem; auto: 1 GiB, or 2 % of a filesystem below 50 GiB.",
  },
  imageIdleMs: {
    schema: fromText(z.number().int().nonnegative()).default(300_000),
    environment: "SKIM_IMAGE_IDLE_MS",
    meaning: "How long a daemon leaves an image mounted that nobody uses any more.",
  },
  mountQueueMax: {
    schema: positiveWhole.default(1_000),
    environment: "SKIM_MOUNT_QUEUE_MAX",
    meaning: "Mounts that may be under way in a daemon at once; more are refused with BUSY.",
  },
  watchdogMs: {
    // What a server says each tenth of it costs nothing; what is shorter kills one that only waits for a busy processor.
    schema: fromText(z.number().int().min(1_000)).default(20_000),
    environment: "SKIM_WATCHDOG_MS",
    meaning:
      "A daemon's server that has not been heard of for so long hangs: it is killed, and another one started.",
  },
  insecureRegistries: {
    schema: z
      .preprocess(
        (value) => (typeof value === "string" ? value.split(",").filter(Boolean) : value),
        z.array(z.string().min(1)),
      )
      .default([]),
    environment: "SKIM_INSECURE_REGISTRIES",
    flag: "--insecure-registry",
    meaning:
      "Hosts that are spoken to over plain http:// (loopback always may be); separated by commas in the environment.",
  },
  mirrors: {
    schema: mirrorsSchema.default({}),
    environment: "SKIM_MIRRORS",
    flag: "--mirror",
    meaning:
      "For each registry the mirrors that are asked before it, in order; `REGISTRY=URL[,URL]` in text, several separated by spaces.",
  },
  layerUncompressedBytesMax: {
    schema: positiveWhole.default(limits.layerUncompressedBytesMax),
    environment: "SKIM_LAYER_UNCOMPRESSED_BYTES_MAX",
    meaning: "Uncompressed bytes of one layer; more is taken for an attack.",
  },
  layerEntriesMax: {
    schema: positiveWhole.default(limits.layerEntriesMax),
    environment: "SKIM_LAYER_ENTRIES_MAX",
    meaning: "Members of one layer's tar; more is taken for an attack.",
  },
  layerRatioMax: {
    schema: fromText(z.number().positive()).default(limits.layerRatioMax),
    environment: "SKIM_LAYER_RATIO_MAX",
    meaning: "Uncompressed bytes for each compressed one, in large layers; more is taken for a bomb.",
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof settingsTable;
export const settingNames = Object.keys(settingsTable) as SettingName[];
