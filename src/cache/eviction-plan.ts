/**
 * What is to go, decided from a list and nothing else. Whole layers that nobody uses first, those used longest ago before others; where they do not
 * suffice, spans of layers that are in use, again by their last use, over all layers. Pinned layers stay whatever that costs.
 */
import { SpanState } from "./presence-map.js";
import type { SpanLayer } from "./span-layers.js";
import type { StoredLayer } from "./stored-layer.js";

export interface SpaceLimits {
  /** All layers together may take so much. */
  readonly bytesMax: number;
  /** The filesystem must have so much left for others. */
  readonly freeBytesMin: number;
}

export interface Space {
  readonly freeBytes: number;
  /** Of what is under way already: holes that wait for a reader. */
  readonly pendingBytes: number;
}

export interface EvictionPlan {
  readonly usedBytes: number;
  /** 0 where everything is within its limits. */
  readonly bytesToFree: number;
  readonly layers: readonly StoredLayer[];
  readonly spans: readonly LayerSpans[];
  /** What the plan will free; less than bytesToFree where the rest is pinned, or in use and extracted. */
  readonly plannedBytes: number;
}

export interface LayerSpans {
  readonly layer: SpanLayer;
  /** In ascending order. */
  readonly spans: readonly number[];
  readonly bytes: number;
}

/** Freed beyond what is necessary, as a share of the limit: eviction has its price for each time, and is due again after as much was written. */
const marginShare = 1 / 16;

export function planEviction(
  layers: readonly StoredLayer[],
  limits: SpaceLimits,
  space: Space,
  options: { readonly isPinned: (layer: StoredLayer) => boolean; readonly withoutMargin?: boolean },
): EvictionPlan {
  const usedBytes = layers.reduce((sum, layer) => sum + layer.diskBytes, 0);
  const share = options.withoutMargin ? 0 : marginShare;
  const excess = (bytes: number, limit: number) => (bytes > 0 ? bytes + Math.floor(limit * share) : 0);
  const bytesToFree = Math.max(
    excess(usedBytes - space.pendingBytes - limits.bytesMax, limits.bytesMax),
    excess(limits.freeBytesMin - space.freeBytes - space.pendingBytes, limits.freeBytesMin),
  );
  const evictable = layers.filter((layer) => !options.isPinned(layer));
  const whole: StoredLayer[] = [];
  let plannedBytes = 0;
  for (const layer of evictable.filter((one) => !one.inUse).sort(byLastUse)) {
    if (plannedBytes >= bytesToFree) break;
    whole.push(layer);
    plannedBytes += layer.diskBytes;
  }
  const spans = chooseSpans(evictable.filter(isOpenSpanLayer), bytesToFree - plannedBytes);
  for (const { bytes } of spans) plannedBytes += bytes;
  return { usedBytes, bytesToFree, layers: whole, spans, plannedBytes };
}

function byLastUse(a: StoredLayer, b: StoredLayer): number {
  return a.lastUsedMs - b.lastUsedMs || (a.digest < b.digest ? -1 : 1);
}

function isOpenSpanLayer(layer: StoredLayer): layer is SpanLayer {
  return layer.kind === "spans" && layer.inUse && !(layer as SpanLayer).evicting;
}

function chooseSpans(layers: readonly SpanLayer[], bytesToFree: number): LayerSpans[] {
  if (bytesToFree <= 0) return [];
  const candidates: {
    layer: SpanLayer;
    map: NonNullable<SpanLayer["map"]>;
    span: number;
    usedSec: number;
  }[] = [];
  for (const layer of [...layers].sort(byLastUse)) {
    const { map } = layer;
    if (!map) continue;
    for (const span of map.spansIn(SpanState.present))
      candidates.push({ layer, map, span, usedSec: map.usedSec(span) });
  }
  // Stable: of spans that were used in the same minute, those of the layer used longest ago come first, in the order of their offsets.
  candidates.sort((a, b) => a.usedSec - b.usedSec);
  const chosen = new Map<SpanLayer, { spans: number[]; bytes: number }>();
  let freed = 0;
  for (const { layer, map, span } of candidates) {
    if (freed >= bytesToFree) break;
    const bytes = map.spanBytes(span);
    const one = chosen.get(layer) ?? { spans: [], bytes: 0 };
    one.spans.push(span);
    one.bytes += bytes;
    chosen.set(layer, one);
    freed += bytes;
  }
  return [...chosen].map(([layer, { spans, bytes }]) => ({
    layer,
    spans: spans.sort((a, b) => a - b),
    bytes,
  }));
}
