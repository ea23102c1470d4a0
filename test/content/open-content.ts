import { afterEach } from "vitest";
import type { ArchiveExtent } from "../../src/archive/archive.js";
import type { Logger } from "../../src/base/logger.js";
import { SpanCache, type SpanCacheOptions } from "../../src/cache/span-cache.js";
import { type Content, openContent } from "../../src/content/content.js";
import type { NativeBinding } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import { MemorySource } from "./memory-source.js";
import { type ScannedArchive, scanLayers, type TestBlob } from "./scanned-layers.js";

const opened: Content[] = [];
afterEach(async () => {
  for (const content of opened.splice(0)) await content.close();
});

export interface OpenOptions {
  readonly cacheDir?: string;
  readonly memoryCacheBytes?: number;
  readonly readDeadlineMs?: number;
  readonly retryAfterMs?: number;
  /** What keeps the cache within limits. */
  readonly limits?: Pick<SpanCacheOptions, "mayWrite" | "settled" | "onWritten">;
  readonly logger?: Logger;
  readonly native?: Partial<NativeBinding>;
  /** Default: false; most tests count requests. */
  readonly readAhead?: boolean;
}

/** Content of layers whose registry is in memory; closed after the test. `layers`: blobs, or what they were scanned to. */
export async function open(
  layers: readonly TestBlob[] | ScannedArchive,
  options: OpenOptions = {},
): Promise<{
  archive: ScannedArchive;
  source: MemorySource;
  content: Content;
  cache: SpanCache | undefined;
}> {
  const archive = "layers" in layers ? layers : await scanLayers(layers);
  const source = new MemorySource(archive.blobs);
  const { cacheDir, retryAfterMs, logger } = options;
  const cacheOptions = {
    ...options.limits,
    ...(logger ? { logger } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
  const cache = cacheDir === undefined ? undefined : SpanCache.open(cacheDir, cacheOptions);
  const content = openContent({
    archive,
    source,
    cache,
    native: { ...loadNative(), ...options.native },
    settings: {
      readDeadlineMs: options.readDeadlineMs ?? 20_000,
      memoryCacheBytes: options.memoryCacheBytes ?? 16 * 1024 * 1024,
    },
    ...(logger ? { logger } : {}),
    readAhead: options.readAhead ?? false,
  });
  opened.push(content);
  return { archive, source, content, cache };
}

export async function readFile(
  content: Content,
  file: { extents: readonly ArchiveExtent[]; fileBytes: number },
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  // Whatever was in the buffer must be gone.
  const into = Buffer.alloc(length, 0xaa);
  return into.subarray(0, await content.read({ ...file, offset, into, ...(signal ? { signal } : {}) }));
}
