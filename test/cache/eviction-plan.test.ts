import { expect, test } from "vitest";
import { type EvictionPlan, planEviction } from "../../src/cache/eviction-plan.js";
import { emptyMap, PresenceMap, SPAN_ENTRY_BYTES, SpanState, usedAt } from "../../src/cache/presence-map.js";
import type { SpanLayer } from "../../src/cache/span-layers.js";
import type { StoredLayer } from "../../src/cache/stored-layer.js";

const spanBytes = 100;

function layer(digest: string, lastUsedMs: number, fields: Partial<StoredLayer> = {}): StoredLayer {
  return {
    kind: "extracted",
    digest,
    diskBytes: 1000,
    lastUsedMs,
    inUse: false,
    remove: async () => "removed",
    ...fields,
  };
}

/** In use, with a span for each time (in seconds). */
function openLayer(
  digest: string,
  lastUsedMs: number,
  usedSec: readonly number[],
  evicting = false,
): SpanLayer {
  const table = Buffer.alloc(usedSec.length * SPAN_ENTRY_BYTES);
  for (const span of usedSec.keys()) table.writeUInt32LE(spanBytes, span * SPAN_ENTRY_BYTES);
  const map = new PresenceMap(emptyMap(table, Buffer.alloc(32)), usedSec.length);
  for (const [span, sec] of usedSec.entries()) {
    map.setState(span, SpanState.present);
    map.bytes.writeUInt32LE(sec, usedAt(span, usedSec.length));
  }
  return {
    ...layer(digest, lastUsedMs, { kind: "spans", inUse: true, diskBytes: usedSec.length * spanBytes }),
    map,
    evicting,
  } as unknown as SpanLayer;
}

const noPins = { isPinned: () => false };
const room = { freeBytes: 1e9, pendingBytes: 0 };
const gone = (plan: EvictionPlan) => plan.layers.map(({ digest }) => digest);
const spansGone = (plan: EvictionPlan) => plan.spans.map((one) => [one.layer.digest, one.spans, one.bytes]);

test("nothing goes within the limits, to the byte", () => {
  const layers = [layer("a", 1), layer("b", 2)];
  expect(planEviction(layers, { bytesMax: 2000, freeBytesMin: 1e9 }, room, noPins)).toMatchObject({
    usedBytes: 2000,
    bytesToFree: 0,
    layers: [],
    spans: [],
  });
});

test("a sixteenth of the limit is freed beyond what is necessary, but not where an amount was asked for", () => {
  const layers = [layer("a", 1), layer("b", 2)];
  const limits = { bytesMax: 1600, freeBytesMin: 0 };
  expect(planEviction(layers, limits, room, noPins).bytesToFree).toBe(400 + 100);
  expect(planEviction(layers, limits, room, { ...noPins, withoutMargin: true }).bytesToFree).toBe(400);
});

test("whole layers go by their last use, of both kinds, equal times by digest", () => {
  const layers = [layer("d", 3), layer("b", 2, { kind: "spans" }), layer("c", 1), layer("a", 1)];
  expect(gone(planEviction(layers, { bytesMax: 1200, freeBytesMin: 0 }, room, noPins))).toEqual([
    "a",
    "c",
    "b",
  ]);
});

test("pinned layers and extracted ones in use stay; what cannot go is not planned", () => {
  const layers = [layer("a", 1), layer("b", 2, { inUse: true }), layer("c", 3)];
  const plan = planEviction(layers, { bytesMax: 0, freeBytesMin: 0 }, room, {
    isPinned: ({ digest }) => digest === "a",
  });
  expect(gone(plan)).toEqual(["c"]);
  expect(plan).toMatchObject({ bytesToFree: 3000, plannedBytes: 1000 });
});

test("spans go by their own last use over all layers in use, after all layers that are not", () => {
  const layers = [
    openLayer("a", 9, [50, 10, 40]),
    openLayer("b", 8, [30, 10, 60]),
    layer("cold", 99, { diskBytes: 100 }),
  ];
  const limits = { bytesMax: 300, freeBytesMin: 0 };
  const plan = planEviction(layers, limits, room, { ...noPins, withoutMargin: true });
  expect(gone(plan)).toEqual(["cold"]);
  expect(spansGone(plan)).toEqual([
    ["b", [0, 1], 200],
    ["a", [1], 100],
  ]);
  expect(plan.plannedBytes).toBe(plan.bytesToFree);
});

test("what is on its way out counts as gone, and its layer is left alone until then", () => {
  const layers = [openLayer("a", 1, [1, 1, 1], true), openLayer("b", 2, [2, 2, 2])];
  const limits = { bytesMax: 400, freeBytesMin: 0 };
  const options = { ...noPins, withoutMargin: true };
  expect(planEviction(layers, limits, { ...room, pendingBytes: 200 }, options)).toMatchObject({
    bytesToFree: 0,
  });
  expect(spansGone(planEviction(layers, limits, { ...room, pendingBytes: 100 }, options))).toEqual([
    ["b", [0], 100],
  ]);
});

test("the larger of both needs counts: the limit, or what the disk lacks", () => {
  const layers = [layer("a", 1), layer("b", 2), layer("c", 3)];
  const space = { freeBytes: 100, pendingBytes: 0 };
  expect(gone(planEviction(layers, { bytesMax: 2900, freeBytesMin: 1600 }, space, noPins))).toEqual([
    "a",
    "b",
  ]);
  expect(gone(planEviction(layers, { bytesMax: 1500, freeBytesMin: 101 }, space, noPins))).toEqual([
    "a",
    "b",
  ]);
});
