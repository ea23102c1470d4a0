import {
  chmodSync,
  existsSync,
  readdirSync,
  readlinkSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { mkdir, rm, symlink } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Logger } from "../../src/base/logger.js";
import { silentLogger } from "../../src/base/logger.js";
import { SpanCache } from "../../src/cache/span-cache.js";
import { digestHex } from "../../src/image/digest.js";
import { makeTempDir } from "../support/temp-dir.js";
import { randomLayer } from "./cached-bytes.js";

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

function layerDir(layer: { digest: Parameters<typeof digestHex>[0] }): string {
  return path.join(cacheDir, "layers/sha256", digestHex(layer.digest));
}

function layerFile(layer: Parameters<typeof layerDir>[0], prefix: string): string {
  const name = readdirSync(layerDir(layer)).find((found) => found.startsWith(prefix));
  return path.join(layerDir(layer), name!);
}

/** Files below the cache directory that this process has open, deleted ones included. */
function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(cacheDir) ? [target] : [];
    } catch {
      return [];
    }
  });
}

function warnings(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const logger = {
    ...silentLogger,
    info() {},
    debug() {},
    warn: (_: object, message: string) => lines.push(message),
  };
  return { logger: logger as unknown as Logger, lines };
}

test("a span that was written is there, also for another cache on the same directory", async () => {
  const { layer, spans } = randomLayer([1000, 70_000, 1]);
  const writer = openCache().layer(layer);
  expect(await writer.load(1)).toBe("absent");
  expect(await writer.write(1, spans[1]!)).toBe(true);
  const into = Buffer.alloc(10);
  expect(writer.readVerified(1, 500, into)).toBe(true);
  expect(into.equals(spans[1]!.subarray(500, 510))).toBe(true);

  const reader = openCache().layer(layer);
  await reader.open();
  expect([reader.has(0), reader.has(1), reader.has(2)]).toEqual([false, true, false]);
  expect(reader.readVerified(1, 0, into)).toBe(false);
  expect(await reader.load(1)).toEqual(spans[1]);
  expect(reader.readVerified(1, 69_990, into)).toBe(true);
  expect(into.equals(spans[1]!.subarray(69_990))).toBe(true);
  // What one writes while both are open, the other sees.
  expect(await writer.write(2, spans[2]!)).toBe(true);
  expect(await reader.load(2)).toEqual(spans[2]);
});

test("the data file is sparse, and only its owner can read or write what is in the directory", async () => {
  const { layer, spans } = randomLayer([50 << 20, 1000]);
  await openCache().layer(layer).write(1, spans[1]!);
  const data = statSync(layerFile(layer, "data-"));
  expect(data.size).toBe(layer.uncompressedBytes);
  expect(data.blocks * 512).toBeLessThan(1 << 20);
  expect(data.mode & 0o777).toBe(0o600);
  expect(statSync(path.join(cacheDir, "layers")).mode & 0o777).toBe(0o700);
  expect(readdirSync(layerDir(layer)).sort()).toEqual([
    expect.stringMatching(/^data-[0-9a-f]{16}$/),
    expect.stringMatching(/^spans-[0-9a-f]{16}$/),
  ]);
});

test("many caches that open a new layer at the same time end up with the same files", async () => {
  const { layer, spans } = randomLayer(Array.from({ length: 20 }, () => 5000));
  const layers = Array.from({ length: 20 }, () => openCache().layer(layer));
  const written = await Promise.all(layers.map((one, span) => one.write(span, spans[span]!)));
  expect(written.every(Boolean)).toBe(true);
  for (const one of layers)
    for (const [span, bytes] of spans.entries())
      expect(bytes.equals((await one.load(span)) as Buffer)).toBe(true);
  expect(readdirSync(layerDir(layer))).toHaveLength(2);
});

test("archives that disagree about a layer's bytes do not share a file", async () => {
  const { layer, spans } = randomLayer([1000, 1000]);
  const forged = { ...randomLayer([1000, 1000]), digest: layer.digest };
  const forgedLayer = { ...forged.layer, digest: layer.digest };
  const good = openCache().layer(layer);
  await good.write(0, spans[0]!);
  await openCache().layer(forgedLayer).write(0, forged.spans[0]!);
  const into = Buffer.alloc(1000);
  expect(good.readVerified(0, 0, into)).toBe(true);
  expect(into.equals(spans[0]!)).toBe(true);
  expect(await openCache().layer(layer).load(0)).toEqual(spans[0]);
});

test("a span with a flipped byte is damaged once, then absent", async () => {
  const { layer, spans } = randomLayer([1000, 1000]);
  await openCache().layer(layer).write(0, spans[0]!);
  const flipped = Buffer.alloc(layer.uncompressedBytes);
  flipped.set(spans[0]!);
  flipped[500]! ^= 1;
  writeFileSync(layerFile(layer, "data-"), flipped, { flag: "r+" });
  const reader = openCache().layer(layer);
  const loads = await Promise.all([reader.load(0), reader.load(0)]);
  expect(loads).toEqual(["damaged", "absent"]);
  expect(await reader.load(0)).toBe("absent");
  expect(await reader.write(0, spans[0]!)).toBe(true);
  expect(await openCache().layer(layer).load(0)).toEqual(spans[0]);
});

test.each([
  ["the data file truncated", () => truncateSync(layerFile(current, "data-"), 10)],
  ["the data file emptied", () => truncateSync(layerFile(current, "data-"), 0)],
  ["the data file grown", () => truncateSync(layerFile(current, "data-"), 10_000)],
  ["the data file deleted", () => rm(layerFile(current, "data-"))],
  ["the map truncated", () => truncateSync(layerFile(current, "spans-"), 20)],
  ["the map deleted", () => rm(layerFile(current, "spans-"))],
  ["the map of something else", () => writeFileSync(layerFile(current, "spans-"), "x", { flag: "r+" })],
  ["a directory in place of the map", () => replaceWithDirectory(layerFile(current, "spans-"))],
  ["a symlink in place of the data file", () => replaceWithLink(layerFile(current, "data-"))],
  ["the layer's directory deleted", () => rm(layerDir(current), { recursive: true })],
  ["the whole cache deleted", () => rm(cacheDir, { recursive: true })],
])("%s: nothing is served from it, and the cache works again", async (_, damage) => {
  const { layer, spans } = randomLayer([1000, 2000]);
  current = layer;
  const running = openCache({ retryAfterMs: 0 }).layer(layer);
  await running.write(0, spans[0]!);
  await damage();
  for (const cache of [openCache().layer(layer), running]) {
    // Whatever it says is there, is right.
    const loaded = await cache.load(0);
    if (typeof loaded !== "string") expect(loaded).toEqual(spans[0]);
    const into = Buffer.alloc(1000);
    if (cache.readVerified(0, 0, into)) expect(into.equals(spans[0]!)).toBe(true);
    expect(await cache.write(1, spans[1]!)).toBe(true);
    expect(await cache.write(0, spans[0]!)).toBe(true);
    expect(await openCache().layer(layer).load(0)).toEqual(spans[0]);
    expect(await openCache().layer(layer).load(1)).toEqual(spans[1]);
  }
});
let current: Parameters<typeof layerDir>[0];

async function replaceWithDirectory(name: string): Promise<void> {
  await rm(name);
  await mkdir(name);
}

async function replaceWithLink(name: string): Promise<void> {
  await rm(name);
  await symlink("/dev/zero", name);
}

test("a data file that was truncated under its readers is not read as zeros after somebody grew it again", async () => {
  const { layer, spans } = randomLayer([1000, 1000]);
  const reader = openCache().layer(layer);
  await reader.write(0, spans[0]!);
  truncateSync(layerFile(layer, "data-"), 0);
  // Another process comes, finds the damage and mends it, in a file of its own.
  const other = openCache().layer(layer);
  await other.write(1, spans[1]!);
  const into = Buffer.alloc(1000);
  expect(reader.readVerified(0, 0, into)).toBe(false);
  expect(await reader.load(0)).toBe("absent");
});

test("files that were deleted under an idle cache are let go, so that their space comes free", async () => {
  const { layer, spans } = randomLayer([1000]);
  const cache = openCache();
  await cache.layer(layer).write(0, spans[0]!);
  // Two files, and a copy of each descriptor for native readers.
  expect(openFiles()).toHaveLength(4);
  cache.releaseStale();
  expect(openFiles()).toHaveLength(4);
  await rm(layerDir(layer), { recursive: true });
  cache.releaseStale();
  await expect.poll(openFiles).toEqual([]);
  expect(await cache.layer(layer).write(0, spans[0]!)).toBe(true);
  expect(existsSync(layerFile(layer, "data-"))).toBe(true);
});

test("a directory that others may write to is not used, and said so once", async () => {
  await mkdir(path.join(cacheDir, "layers"));
  chmodSync(path.join(cacheDir, "layers"), 0o777);
  const { layer, spans } = randomLayer([1000]);
  const { logger, lines } = warnings();
  const cache = openCache({ logger, retryAfterMs: 0 }).layer(layer);
  for (let i = 0; i < 3; i++) expect(await cache.write(0, spans[0]!)).toBe(false);
  expect(await cache.load(0)).toBe("absent");
  expect(lines).toHaveLength(1);
  chmodSync(path.join(cacheDir, "layers"), 0o700);
  expect(await cache.write(0, spans[0]!)).toBe(true);
});

test("a disk that fails is left alone for a while", async () => {
  const { layer, spans } = randomLayer([1000]);
  writeFileSync(path.join(cacheDir, "layers"), "in the way");
  const cache = openCache({ retryAfterMs: 60_000 }).layer(layer);
  expect(cache.accepts).toBe(true);
  expect(await cache.write(0, spans[0]!)).toBe(false);
  expect(cache.accepts).toBe(false);
  await rm(path.join(cacheDir, "layers"));
  expect(await cache.write(0, spans[0]!)).toBe(false);
  expect(existsSync(path.join(cacheDir, "layers"))).toBe(false);
});

test("temporary files of processes that were killed are removed, fresh ones are not", async () => {
  const { layer, spans } = randomLayer([1000]);
  await mkdir(layerDir(layer), { recursive: true, mode: 0o700 });
  const old = path.join(layerDir(layer), "data-0000000000000000.tmp-00");
  const fresh = path.join(layerDir(layer), "data-0000000000000000.tmp-01");
  for (const name of [old, fresh]) writeFileSync(name, "");
  utimesSync(old, 0, 0);
  expect(await openCache().layer(layer).write(0, spans[0]!)).toBe(true);
  expect([existsSync(old), existsSync(fresh)]).toEqual([false, true]);
});

test("closing closes all files, also twice and while files are being opened", async () => {
  const { layer, spans } = randomLayer([1000]);
  const cache = openCache();
  const writing = cache.layer(layer).write(0, spans[0]!);
  await cache.close();
  await writing;
  await cache.close();
  expect(openFiles()).toEqual([]);
  expect(await cache.layer(layer).load(0)).toBe("absent");
  expect(await cache.layer(layer).write(0, spans[0]!)).toBe(false);
  expect(await cache.layer(randomLayer([10]).layer).load(0)).toBe("absent");
  expect(openFiles()).toEqual([]);
});
