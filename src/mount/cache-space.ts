/** How much the cache takes, and may take: what is asked every few seconds, and so must not look into each layer as cache-report.ts does. */
import { filesystemSpace } from "../cache/evictor.js";
import { SpanLayers } from "../cache/span-layers.js";
import { loadNative } from "../native/load.js";
import { ExtractedStock } from "../unpack/extracted-stock.js";
import { type CacheSettings, spaceLimits } from "./disk-cache.js";

/** Bytes on disk. */
export interface CacheSpace {
  readonly usedBytes: number;
  readonly bytesMax: number;
  readonly freeBytes: number;
}

/** Throws what node:fs says. */
export async function cacheSpace(settings: CacheSettings): Promise<CacheSpace> {
  const native = loadNative();
  const stocks = [new SpanLayers(settings.cacheDir, native), new ExtractedStock(settings.cacheDir, native)];
  const used = await Promise.all(stocks.map((stock) => stock.diskBytes()));
  const space = await filesystemSpace(settings.cacheDir);
  return {
    usedBytes: used.reduce((sum, bytes) => sum + bytes, 0),
    bytesMax: spaceLimits(settings, space).bytesMax,
    freeBytes: space.freeBytes,
  };
}
