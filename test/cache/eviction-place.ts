/** A cache directory with layers in it, and what eviction makes of it, with a clock and a disk of the test's own. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { silentLogger } from "../../src/base/logger.js";
import type { CachedLayer } from "../../src/cache/cached-layer.js";
import { layoutOf } from "../../src/cache/cached-layer.js";
import { Evictor, type EvictorOptions } from "../../src/cache/evictor.js";
import { type LayerFileNames, layerDirectory, layerFileNames } from "../../src/cache/layer-files.js";
import { SpanCache } from "../../src/cache/span-cache.js";
import { loadNative } from "../../src/native/load.js";
import { randomLayer } from "./cached-bytes.js";

export const spanBytes = 64 * 1024;
export type FilledLayer = ReturnType<typeof randomLayer>;

export function makeEvictor(
  cacheDir: string,
  bytesMax: number,
  options: Partial<EvictorOptions> = {},
): Evictor {
  return new Evictor({
    cacheDir,
    native: loadNative(),
    logger: silentLogger,
    stocks: [],
    limits: () => ({ bytesMax, freeBytesMin: 0 }),
    spaceOf: async () => ({ totalBytes: 1e12, freeBytes: 1e12 }),
    graceMs: 0,
    ...options,
  });
}

/** A layer of `spans` spans, all of them written at `timeMs`, and not open any more. */
export async function fillLayer(cacheDir: string, spans: number, timeMs: number): Promise<FilledLayer> {
  const filled = randomLayer(Array.from({ length: spans }, () => spanBytes));
  const cache = SpanCache.open(cacheDir, { clock: () => timeMs });
  for (const [span, bytes] of filled.spans.entries()) await cache.layer(filled.layer).write(span, bytes);
  await cache.close();
  return filled;
}

export function namesOf(cacheDir: string, layer: CachedLayer): LayerFileNames {
  return layerFileNames(layerDirectory(cacheDir, layer.digest), layoutOf(layer).toString("hex", 0, 8));
}

/** Blocks of everything below the directory. */
export function diskBytesOf(directory: string): number {
  let bytes = 0;
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" }))
    bytes += statSync(path.join(directory, name)).blocks * 512;
  return bytes;
}
