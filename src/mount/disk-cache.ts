/** The cache directory as a whole: spans, extracted layers, and what keeps them within the limits of the settings. */
import path from "node:path";
import { bytesOf, parseByteAmount } from "../base/byte-amount.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import type { SpaceLimits } from "../cache/eviction-plan.js";
import { Evictor, type FilesystemSpace } from "../cache/evictor.js";
import { LimitKeeper } from "../cache/limit-keeper.js";
import { SpanCache } from "../cache/span-cache.js";
import { TemporaryFiles } from "../cache/temporary-files.js";
import { loadNative } from "../native/load.js";
import { ExtractedStock } from "../unpack/extracted-stock.js";

/** After a look that found no room. Long enough to cost nothing, short enough to notice soon that somebody made some. */
const pauseMs = 30_000;

const freeBytesMinDefault = 1024 ** 3;
const freeShareDefault = 0.02;

export type CacheSettings = Pick<Settings, "cacheDir" | "cacheBytesMax" | "cacheFreeBytesMin">;

export function spaceLimits(settings: CacheSettings, { totalBytes }: FilesystemSpace): SpaceLimits {
  const { cacheBytesMax, cacheFreeBytesMin } = settings;
  return {
    bytesMax: bytesOf(parseByteAmount(cacheBytesMax), totalBytes),
    freeBytesMin:
      cacheFreeBytesMin === "auto"
        ? Math.min(freeBytesMinDefault, Math.floor(totalBytes * freeShareDefault))
        : bytesOf(parseByteAmount(cacheFreeBytesMin), totalBytes),
  };
}

/** `onRetired`: see EvictorOptions; for a process that has layers open. */
export function openEvictor(settings: CacheSettings, logger: Logger, onRetired?: () => void): Evictor {
  const native = loadNative();
  return new Evictor({
    cacheDir: settings.cacheDir,
    native,
    logger,
    stocks: [
      new ExtractedStock(settings.cacheDir, native),
      new TemporaryFiles(
        ["archives", "layer-indexes", "pins", "profiles"].map((name) => path.join(settings.cacheDir, name)),
      ),
    ],
    limits: (space) => spaceLimits(settings, space),
    ...(onRetired ? { onRetired } : {}),
  });
}

/** What was evicted since the cache was opened, by this process: layers as wholes, spans of others, and bytes on disk of both. */
export interface EvictionCounts {
  readonly layers: number;
  readonly spans: number;
  readonly bytes: number;
}

export interface DiskCache {
  readonly spans: SpanCache;
  readonly evictions: () => EvictionCounts;
  /** Closes what is open and has a last look at the limits. */
  close(): Promise<void>;
}

/** The span cache of a process that fetches, kept within the limits while it writes. */
export function openDiskCache(settings: CacheSettings, logger: Logger): DiskCache {
  const spans = SpanCache.open(settings.cacheDir, {
    logger,
    mayWrite: () => keeper.mayWrite,
    settled: () => keeper.settled(),
    onWritten: (bytes, isFull) => keeper.wrote(bytes, isFull),
  });
  const evictor = openEvictor(settings, logger, () => spans.releaseStale());
  const evicted = { layers: 0, spans: 0, bytes: 0 };
  const limit = parseByteAmount(settings.cacheBytesMax);
  const keeper = new LimitKeeper({
    bytesMax: "bytes" in limit ? limit.bytes : undefined,
    evictor: {
      run: async (run) => {
        // What this process has used in the last minute should not look cold.
        await spans.recordUse();
        const report = await evictor.run(run);
        for (const { bytes } of report?.layers ?? []) {
          evicted.layers++;
          evicted.bytes += bytes;
        }
        for (const { spans: count, bytes } of report?.spans ?? []) {
          evicted.spans += count;
          evicted.bytes += bytes;
        }
        return report;
      },
    },
    logger,
    onNoRoom: () => spans.pauseWrites(pauseMs),
  });
  return {
    spans,
    evictions: () => ({ ...evicted }),
    close: async () => {
      await spans.close();
      await keeper.close();
    },
  };
}

/** One look at the limits, for whoever has written to the cache otherwise. Never rejects. */
export async function lookAtLimits(settings: CacheSettings, logger: Logger): Promise<void> {
  await new LimitKeeper({ evictor: openEvictor(settings, logger), logger }).look();
}
