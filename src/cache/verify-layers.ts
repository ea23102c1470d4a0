/** Every span that is on disk, read and compared with the sha256 that its map has of it. What is damaged is forgotten, and fetched again when it is read next. */
import { noProgress, type Progress } from "../base/progress.js";
import { isDigest } from "../image/digest.js";
import type { CachedLayer } from "./cached-layer.js";
import { SpanState } from "./presence-map.js";
import { SpanCache } from "./span-cache.js";
import type { SpanLayer } from "./span-layers.js";

export interface VerifiedLayer {
  readonly kind: "spans" | "extracted";
  readonly digest: string;
  /** Spans, or 1 for an extracted layer. */
  readonly intact: number;
  readonly damaged: number;
  readonly bytes: number;
}

export interface VerifyOptions {
  readonly cacheDir: string;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** A layer whose map is damaged tells nothing: it is removed if nobody uses it, and counts as one damaged span. Throws the reason of the signal. */
export async function verifySpanLayer(layer: SpanLayer, options: VerifyOptions): Promise<VerifiedLayer> {
  const { kind, digest, map } = layer;
  if (!map || !isDigest(digest)) {
    await layer.remove();
    return { kind, digest, intact: 0, damaged: 1, bytes: 0 };
  }
  const present = map.spansIn(SpanState.present);
  const total = present.reduce((sum, span) => sum + map.spanBytes(span), 0);
  const task = (options.progress ?? noProgress).start(digest, total);
  const cache = SpanCache.open(options.cacheDir, { recordsUse: false });
  const result = { kind, digest, intact: 0, damaged: 0, bytes: 0 };
  try {
    const spans = cache.layer(layerOf(layer, digest, map));
    for (const span of present) {
      options.signal?.throwIfAborted();
      const loaded = await spans.load(span);
      if (loaded === "damaged") result.damaged++;
      // Evicted meanwhile where it is absent.
      else if (loaded !== "absent") result.intact++;
      result.bytes += map.spanBytes(span);
      task.advance(map.spanBytes(span));
    }
  } finally {
    await cache.close();
    task.done(`${result.damaged} damaged`);
  }
  return result;
}

function layerOf(
  layer: SpanLayer,
  digest: CachedLayer["digest"],
  map: NonNullable<SpanLayer["map"]>,
): CachedLayer {
  const offsets = map.spanOffsets();
  return {
    digest,
    uncompressedBytes: layer.uncompressedBytes,
    spanCount: map.spanCount,
    span: (index) => ({
      uncompressedOffset: offsets[index]!,
      uncompressedLength: map.spanBytes(index),
      sha256: map.sha256(index),
    }),
  };
}
