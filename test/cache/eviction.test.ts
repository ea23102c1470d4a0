import { execFileSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { LayerCache } from "../../src/cache/layer-cache.js";
import { finishEviction, retireMap } from "../../src/cache/layer-eviction.js";
import { writePin } from "../../src/cache/pins.js";
import { stateAt } from "../../src/cache/presence-map.js";
import { SpanCache } from "../../src/cache/span-cache.js";
import { SpanLayers } from "../../src/cache/span-layers.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  diskBytesOf,
  type FilledLayer,
  fillLayer,
  makeEvictor,
  namesOf,
  spanBytes,
} from "./eviction-place.js";

const native = loadNative();
let cacheDir: string;
const opened: SpanCache[] = [];
beforeEach(async () => {
  cacheDir = await makeTempDir("cache");
});
afterEach(async () => {
  for (const cache of opened.splice(0)) await cache.close();
});

function openCache(options: Parameters<typeof SpanCache.open>[1] = {}): SpanCache {
  const cache = SpanCache.open(cacheDir, options);
  opened.push(cache);
  return cache;
}

const isThere = ({ layer }: FilledLayer) => existsSync(namesOf(cacheDir, layer).data);
const minute = 60_000;

/** Which spans the cache gives, each compared with the truth. */
async function spansOf(cache: LayerCache, { spans }: FilledLayer): Promise<number[]> {
  const found: number[] = [];
  for (const [span, bytes] of spans.entries()) {
    const loaded = await cache.load(span);
    if (loaded === "absent") continue;
    expect(loaded).toEqual(bytes);
    found.push(span);
  }
  return found;
}

describe("whole layers", () => {
  test("those used longest ago go first, until the rest and a sixteenth of the limit fit", async () => {
    const layers = [];
    for (const minutes of [30, 10, 20]) layers.push(await fillLayer(cacheDir, 8, minutes * minute));
    const one = diskBytesOf(cacheDir) / 3;
    const report = await makeEvictor(cacheDir, 2.5 * one).run();
    expect(layers.map(isThere)).toEqual([true, false, true]);
    expect(report).toMatchObject({
      layers: [{ kind: "spans", digest: layers[1]!.layer.digest }],
      spans: [],
      waitingBytes: 0,
    });
    // Directories of their own are left out of both.
    expect(report!.usedBytes).toBeLessThanOrEqual(2 * one);
    expect(readdirSync(path.join(cacheDir, "layers/sha256"))).toHaveLength(2);
  });

  test("nothing is done within the limits", async () => {
    const layer = await fillLayer(cacheDir, 4, minute);
    const report = await makeEvictor(cacheDir, 1e9).run({ thorough: true });
    expect(report).toMatchObject({ layers: [], spans: [] });
    expect(isThere(layer)).toBe(true);
  });

  test("a disk that has too little left for others is reason enough", async () => {
    const layer = await fillLayer(cacheDir, 4, minute);
    await makeEvictor(cacheDir, 1e9, {
      limits: () => ({ bytesMax: 1e9, freeBytesMin: 1000 }),
      spaceOf: async () => ({ totalBytes: 1e9, freeBytes: 999 }),
    }).run();
    expect(isThere(layer)).toBe(false);
  });

  test("opening a layer is using it", async () => {
    const old = await fillLayer(cacheDir, 4, minute);
    const newer = await fillLayer(cacheDir, 4, 2 * minute);
    const cache = SpanCache.open(cacheDir, { clock: () => 3 * minute });
    await cache.layer(old.layer).open();
    await cache.close();
    await makeEvictor(cacheDir, 1.5 * (diskBytesOf(cacheDir) / 2)).run();
    expect([isThere(old), isThere(newer)]).toEqual([true, false]);
  });

  test("pinned layers stay, though nothing else is left", async () => {
    const [pinned, other] = [await fillLayer(cacheDir, 4, minute), await fillLayer(cacheDir, 4, 2 * minute)];
    await writePin(cacheDir, { name: "base", layers: [pinned.layer.digest] });
    const report = await makeEvictor(cacheDir, 0).run();
    expect([isThere(pinned), isThere(other)]).toEqual([true, false]);
    expect(report!.usedBytes).toBeGreaterThan(0);
    const running = openCache().layer(pinned.layer);
    await running.open();
    await makeEvictor(cacheDir, 0).run();
    expect(await spansOf(running, pinned)).toEqual([0, 1, 2, 3]);
  });

  test("a dry run says the same and changes nothing", async () => {
    const layer = await fillLayer(cacheDir, 4, minute);
    const plan = await makeEvictor(cacheDir, 0).plan();
    expect(plan).toMatchObject({ layers: [{ digest: layer.layer.digest }], usedBytes: 0 });
    expect(isThere(layer)).toBe(true);
  });

  test("one process evicts at a time, and a run that waits comes after it", async () => {
    await fillLayer(cacheDir, 4, minute);
    const evictors = Array.from({ length: 4 }, () => makeEvictor(cacheDir, 0));
    const reports = await Promise.all([
      ...evictors.map((one) => one.run()),
      evictors[0]!.run({ wait: true }),
    ]);
    expect(reports.filter((report) => report?.layers.length === 1)).toHaveLength(1);
    expect(reports.at(-1)).toBeDefined();
  });
});

describe("spans of a layer that is in use", () => {
  test("those used longest ago become holes, in their place on disk; the others stay", async () => {
    const filled = await fillLayer(cacheDir, 8, minute);
    let nowMs = 10 * minute;
    const cache = openCache({ clock: () => nowMs });
    const layer = cache.layer(filled.layer);
    for (const span of [0, 3, 7]) await layer.load(span);
    await cache.recordUse();
    nowMs = 20 * minute;
    expect(layer.readVerified(3, 0, Buffer.alloc(10))).toBe(true);
    await cache.recordUse();
    const { data } = namesOf(cacheDir, filled.layer);
    const { ino } = statSync(data);
    const run = makeEvictor(cacheDir, 0, { onRetired: () => cache.releaseStale(), graceMs: 20_000 });
    const report = await run.run({ bytesMax: 2.5 * spanBytes });
    expect(report).toMatchObject({
      layers: [],
      spans: [{ digest: filled.layer.digest, spans: 6 }],
      waitingBytes: 0,
    });
    expect(statSync(data)).toMatchObject({ ino, size: filled.layer.uncompressedBytes });
    expect(statSync(data).blocks * 512).toBe(2 * spanBytes);
    expect(await spansOf(layer, filled)).toEqual([3, 7]);
    // Evicted spans are written again like any other.
    expect(await layer.write(5, filled.spans[5]!)).toBe(true);
    expect(await spansOf(openCache().layer(filled.layer), filled)).toEqual([3, 5, 7]);
  });

  test("are served to a reader that has not gone on, and their holes wait for it", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const slow = openCache();
    const layer = slow.layer(filled.layer);
    expect(await spansOf(layer, filled)).toEqual([0, 1, 2, 3]);
    const evictor = makeEvictor(cacheDir, 0);
    const waiting = await evictor.run();
    expect(waiting).toMatchObject({ spans: [], waitingBytes: 4 * spanBytes });
    for (const [span, bytes] of filled.spans.entries()) {
      const into = Buffer.alloc(spanBytes);
      expect(layer.readVerified(span, 0, into)).toBe(true);
      expect(into.equals(bytes)).toBe(true);
    }
    // A newcomer is not given what will go, and does not write where a hole will be.
    const newcomer = openCache().layer(filled.layer);
    expect(await spansOf(newcomer, filled)).toEqual([]);
    expect(await newcomer.write(2, filled.spans[2]!)).toBe(true);
    expect(await newcomer.load(2)).toBe("absent");
    slow.releaseStale();
    await expect.poll(async () => (await evictor.run())?.waitingBytes).toBe(0);
    expect(statSync(namesOf(cacheDir, filled.layer).data).blocks).toBe(0);
    expect(await spansOf(layer, filled)).toEqual([]);
  });

  test("what is written through the old map while spans are evicted is not lost", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const cache = openCache();
    const layer = cache.layer(filled.layer);
    await layer.open();
    await layer.drop(3);
    const names = namesOf(cacheDir, filled.layer);
    expect(await retireMap(names, [0, 1], native)).toBe(true);
    // As a write does that was under way: its bytes are there, and now it says so.
    const map = openSync(names.retiredMap, "r+");
    writeSync(map, Uint8Array.of(1), 0, 1, stateAt(3));
    closeSync(map);
    layer.releaseStale();
    await expect
      .poll(() => finishEviction(names, native, { waitMsMax: 0 }))
      .toEqual({ outcome: "punched", spans: 2 });
    expect(await spansOf(layer, filled)).toEqual([2, 3]);
  });
});

describe("what a crash leaves between two steps is finished by the next", () => {
  test("killed before the new map had its name: nothing has happened", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const names = namesOf(cacheDir, filled.layer);
    linkSync(names.map, names.retiredMap);
    copyFileSync(names.map, `${names.map}.tmp-0011`);
    utimesSync(`${names.map}.tmp-0011`, 0, 0);
    await makeEvictor(cacheDir, 1e9).run({ thorough: true });
    expect(readdirSync(names.directory)).toHaveLength(2);
    expect(await spansOf(openCache().layer(filled.layer), filled)).toEqual([0, 1, 2, 3]);
  });

  test("killed after it, or while holes were punched: the rest are", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const names = namesOf(cacheDir, filled.layer);
    expect(await retireMap(names, [1, 2], native)).toBe(true);
    expect(await retireMap(names, [3], native)).toBe(false);
    execFileSync("fallocate", ["-p", "-o", String(spanBytes), "-l", String(spanBytes), names.data]);
    expect(await spansOf(openCache().layer(filled.layer), filled)).toEqual([0, 3]);
    await makeEvictor(cacheDir, 1e9).run();
    expect(readdirSync(names.directory)).toHaveLength(2);
    expect(statSync(names.data).blocks * 512).toBe(2 * spanBytes);
    const layer = openCache().layer(filled.layer);
    expect(await spansOf(layer, filled)).toEqual([0, 3]);
    expect(await layer.write(1, filled.spans[1]!)).toBe(true);
    await makeEvictor(cacheDir, 1e9).run();
    expect(await spansOf(layer, filled)).toEqual([0, 1, 3]);
  });

  test("an eviction whose retired map was deleted ends with new files: nobody knows who reads what", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const names = namesOf(cacheDir, filled.layer);
    await retireMap(names, [1], native);
    rmSync(names.retiredMap);
    const before = openSync(names.data, "r");
    const layer = openCache().layer(filled.layer);
    await layer.open();
    expect(await retireMap(names, [0], native)).toBe(false);
    expect((await makeEvictor(cacheDir, 1e9).run({ thorough: true }))!.leftovers).toBe(1);
    layer.releaseStale();
    expect(await layer.write(1, filled.spans[1]!)).toBe(true);
    expect(fstatSync(before).nlink).toBe(0);
    closeSync(before);
    expect(await spansOf(layer, filled)).toEqual([1]);
  });

  test("a map made from nothing has a data file of its own, so that no hole of before is punched into it", async () => {
    const filled = await fillLayer(cacheDir, 4, minute);
    const names = namesOf(cacheDir, filled.layer);
    await retireMap(names, [0], native);
    const before = openSync(names.data, "r");
    rmSync(names.map);
    const layer = openCache().layer(filled.layer);
    expect(await layer.write(0, filled.spans[0]!)).toBe(true);
    expect(fstatSync(before).nlink).toBe(0);
    closeSync(before);
    expect(await finishEviction(names, native, { waitMsMax: 0 })).toEqual({ outcome: "none" });
    expect(await spansOf(layer, filled)).toEqual([0]);
  });

  test("empty directories and old temporary files go", async () => {
    const filled = await fillLayer(cacheDir, 1, minute);
    const { directory } = namesOf(cacheDir, filled.layer);
    const empty = path.join(path.dirname(directory), "ab".repeat(32));
    await mkdir(empty);
    const [old, fresh] = ["data-00.tmp-00", "data-00.tmp-01"].map((name) => path.join(directory, name));
    for (const file of [old!, fresh!]) writeFileSync(file, "");
    utimesSync(old!, 0, 0);
    const report = await makeEvictor(cacheDir, 1e9).run({ thorough: true });
    expect(report!.leftovers).toBe(2);
    expect([empty, old!, fresh!].map(existsSync)).toEqual([false, false, true]);
  });
});

test("a layer is listed with what is on disk, when it was used, and whether it is open", async () => {
  const filled = await fillLayer(cacheDir, 4, 5 * minute);
  const layers = new SpanLayers(cacheDir, native);
  const [listed] = await layers.list();
  expect(listed).toMatchObject({
    digest: filled.layer.digest,
    uncompressedBytes: 4 * spanBytes,
    spanCount: 4,
    spansPresent: 4,
    lastUsedMs: 5 * minute,
    inUse: false,
  });
  expect(listed!.diskBytes).toBe(4 * spanBytes + 4096);
  await openCache().layer(filled.layer).open();
  expect((await layers.list())[0]!.inUse).toBe(true);
});
