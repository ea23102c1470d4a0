import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import type { Logger } from "../../src/base/logger.js";
import { silentLogger } from "../../src/base/logger.js";
import { MAP_HEADER_BYTES } from "../../src/cache/presence-map.js";
import type { Content } from "../../src/content/content.js";
import { type ContentLayer, layerOfSpan } from "../../src/content/content-archive.js";
import type { SpanStore } from "../../src/content/span-store.js";
import { AheadVerifier } from "../../src/content/verify-ahead.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { open, readFile } from "./open-content.js";
import {
  gzipBlob,
  plainBlob,
  type ScannedArchive,
  sampleBytes,
  scanLayers,
  wholeLayer,
  zstdBlob,
} from "./scanned-layers.js";

const megabyte = 1 << 20;
const mounted: string[] = [];
afterEach(() => {
  for (const dir of mounted.splice(0)) execFileSync("umount", ["-l", dir]);
});

/** All of layer 0, compared with the truth. */
async function expectWhole(content: Content, archive: ScannedArchive): Promise<void> {
  const truth = archive.truths[0]!;
  expect((await readFile(content, wholeLayer(archive), 0, truth.length)).equals(truth)).toBe(true);
}

/** A cache directory with all of `archive` in it. */
async function filledCache(archive: ScannedArchive): Promise<string> {
  const cacheDir = await makeTempDir("content");
  const { content } = await open(archive, { cacheDir });
  await expectWhole(content, archive);
  await content.close();
  return cacheDir;
}

function cacheFile(cacheDir: string, prefix: string): string {
  const names = readdirSync(path.join(cacheDir, "layers"), { recursive: true, encoding: "utf8" });
  const name = names.find((found) => path.basename(found).startsWith(prefix));
  return path.join(cacheDir, "layers", name!);
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

const kinds = [
  ["gzip", () => gzipBlob(sampleBytes(megabyte))],
  ["plain", () => plainBlob(sampleBytes(megabyte))],
  ["zstd", () => zstdBlob(sampleBytes(megabyte))],
] as const;

test.each(kinds)("after a restart nothing is fetched again: %s", async (_, makeBlob) => {
  const archive = await scanLayers([makeBlob()]);
  const cacheDir = await filledCache(archive);
  const { content, source } = await open(archive, { cacheDir });
  await expectWhole(content, archive);
  await expectWhole(content, archive);
  expect(source.requests).toHaveLength(0);
  expect(content.counters.snapshot()).toMatchObject({
    disk_spans_total: 2 * archive.layers[0]!.spanCount,
    network_spans_total: 0,
    memory_spans_total: 0,
  });
});

/** Resolves to what is verified of layer 0, when `isEnough` of it is. */
async function verifiedOf(
  content: Content,
  isEnough: (verified: readonly number[]) => boolean,
): Promise<readonly number[]> {
  let bytes: Uint8Array | undefined;
  const stop = content.watchFiles((_, handle) => {
    bytes = handle && loadNative().cacheVerified(handle);
  });
  await vi.waitFor(() => expect(bytes && isEnough([...bytes])).toBe(true), { timeout: 10_000 });
  stop();
  return [...bytes!];
}

test("what is foretold and on disk is verified before it is read", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const cacheDir = await filledCache(archive);
  const { content, source } = await open(archive, { cacheDir });
  await content.prefetch([3, 1], new AbortController().signal);
  const verified = await verifiedOf(content, (spans) => spans[3] === 1 && spans[1] === 1);
  expect(verified.filter((is) => is === 1)).toHaveLength(2);
  expect(source.requests).toHaveLength(0);
});

test("what was used last is verified before it is read, and damage among it found by its reader", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const cacheDir = await filledCache(archive);
  const { uncompressedOffset } = archive.span(1);
  const data = readFileSync(cacheFile(cacheDir, "data-"));
  data[uncompressedOffset]! ^= 1;
  writeFileSync(cacheFile(cacheDir, "data-"), data, { flag: "r+" });
  const { content, source } = await open(archive, { cacheDir });
  await content.verifyUsedLast(new AbortController().signal);
  const verified = await verifiedOf(content, () => true);
  expect(verified.flatMap((is, span) => (is === 1 ? [] : [span]))).toEqual([1]);
  expect(content.counters.get("verification_failures_total")).toBe(0);
  await expectWhole(content, archive);
  expect(source.requests).toHaveLength(1);
  expect(content.counters.get("verification_failures_total")).toBe(1);
});

test("of what was used last as much is taken as was said, the latest first", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte)), gzipBlob(sampleBytes(megabyte))]);
  const [first, second] = archive.layers;
  const used = [
    { span: first!.spanFirst, usedSec: 10 },
    { span: first!.spanFirst + 1, usedSec: 30 },
    { span: first!.spanFirst + 2, usedSec: 0 },
    { span: second!.spanFirst, usedSec: 30 },
    { span: second!.spanFirst + 1, usedSec: 20 },
  ];
  const store = {
    openLayer: async () => {},
    usedSpans: (layer: ContentLayer) => used.filter(({ span }) => layerOfSpan(archive, span) === layer),
  };
  const verifier = new AheadVerifier(archive, store as unknown as SpanStore);
  const latestFirst = [used[1], used[3], used[4], used[0], used[2]].map((use) => use!.span);
  expect(await verifier.usedLast(megabyte * 2)).toEqual(latestFirst);
  const bytes = latestFirst.slice(0, 3).reduce((sum, span) => sum + archive.span(span).uncompressedLength, 0);
  expect(await verifier.usedLast(bytes)).toEqual(latestFirst.slice(0, 3));
  expect(await verifier.usedLast(bytes - 1)).toEqual(latestFirst.slice(0, 2));
});

test("another image with the same layer, at another place, finds it on disk", async () => {
  const shared = gzipBlob(sampleBytes(300_000));
  const cacheDir = await filledCache(await scanLayers([shared]));
  const { archive, content, source } = await open([gzipBlob(sampleBytes(200_000)), shared], { cacheDir });
  const bytes = await readFile(content, wholeLayer(archive, 1), 0, 300_000);
  expect(bytes.equals(shared.truth)).toBe(true);
  expect(source.requests).toHaveLength(0);
});

test("a byte that was flipped on disk is noticed, fetched again once, and right", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const cacheDir = await filledCache(archive);
  const data = readFileSync(cacheFile(cacheDir, "data-"));
  data[500_000]! ^= 1;
  writeFileSync(cacheFile(cacheDir, "data-"), data, { flag: "r+" });
  const { content, source } = await open(archive, { cacheDir });
  await Promise.all([expectWhole(content, archive), expectWhole(content, archive)]);
  expect(source.requests).toHaveLength(1);
  expect(content.counters.get("verification_failures_total")).toBe(1);
  await content.close();
  const again = await open(archive, { cacheDir });
  await expectWhole(again.content, archive);
  expect(again.source.requests).toHaveLength(0);
});

test("a map that says more than the data file has, as after a crash, costs nothing but fetches", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const cacheDir = await makeTempDir("content");
  const first = await open(archive, { cacheDir });
  await readFile(first.content, wholeLayer(archive), 0, 1);
  await first.content.close();
  const map = readFileSync(cacheFile(cacheDir, "spans-"));
  writeFileSync(cacheFile(cacheDir, "spans-"), map.fill(1, MAP_HEADER_BYTES), { flag: "r+" });
  const { content } = await open(archive, { cacheDir });
  await expectWhole(content, archive);
  const spans = archive.layers[0]!.spanCount;
  expect(content.counters.snapshot()).toMatchObject({
    disk_spans_total: 1,
    network_spans_total: spans - 1,
    verification_failures_total: spans - 1,
  });
});

test.each([
  ["truncated", (cacheDir: string) => truncateSync(cacheFile(cacheDir, "data-"), 300_000)],
  ["emptied", (cacheDir: string) => truncateSync(cacheFile(cacheDir, "data-"), 0)],
  ["deleted", (cacheDir: string) => rm(path.join(cacheDir, "layers"), { recursive: true })],
])("a cache that is %s under a running reader heals", async (_, damage) => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte)), gzipBlob(sampleBytes(300_000))]);
  const cacheDir = await filledCache(archive);
  const { content } = await open(archive, { cacheDir, memoryCacheBytes: 0 });
  await expectWhole(content, archive);
  await damage(cacheDir);
  await expectWhole(content, archive);
  // A miss writes, and so finds out what the reads of a deleted file cannot tell.
  await readFile(content, wholeLayer(archive, 1), 0, 300_000);
  await expectWhole(content, archive);
  await content.verifyAll({ fetch: true });
  await content.close();
  const again = await open(archive, { cacheDir });
  await readFile(again.content, wholeLayer(archive, 1), 0, 300_000);
  expect(again.source.requests).toHaveLength(0);
});

test("a full disk is served around, said once, and used again when there is room", async () => {
  const dir = await makeTempDir("content");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,mode=0700", "none", dir]);
  mounted.push(dir);
  const archive = await scanLayers([gzipBlob(sampleBytes(3 * megabyte))]);
  const { logger, lines } = warnings();
  const { content } = await open(archive, { cacheDir: dir, memoryCacheBytes: 0, logger, retryAfterMs: 50 });
  await expectWhole(content, archive);
  await expectWhole(content, archive);
  await expect.poll(() => content.counters.get("cache_write_failures_total")).toBeGreaterThan(0);
  expect(content.counters.get("disk_spans_total")).toBeGreaterThan(0);
  expect(lines).toEqual([expect.stringContaining("not cached on disk")]);
  execFileSync("mount", ["-o", "remount,size=16m", dir]);
  await expect
    .poll(
      async () => {
        const before = content.counters.get("network_spans_total");
        await expectWhole(content, archive);
        return content.counters.get("network_spans_total") - before;
      },
      { timeout: 20_000 },
    )
    .toBe(0);
  await content.close();
});

test("a cache on a read-only filesystem is read, and what is not in it is served without", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte)), plainBlob(sampleBytes(megabyte))]);
  const dir = await makeTempDir("content");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m,mode=0700", "none", dir]);
  mounted.push(dir);
  const writer = await open(archive, { cacheDir: dir });
  await expectWhole(writer.content, archive);
  await readFile(writer.content, wholeLayer(archive, 1), 0, 1);
  await writer.content.close();
  execFileSync("mount", ["-o", "remount,ro", dir]);
  const { logger, lines } = warnings();
  const { content, source } = await open(archive, { cacheDir: dir, logger });
  await expectWhole(content, archive);
  expect(source.requests).toHaveLength(0);
  const bytes = await readFile(content, wholeLayer(archive, 1), 0, megabyte);
  expect(bytes.equals(archive.truths[1]!)).toBe(true);
  expect(source.requests).toHaveLength(1);
  // One for each layer.
  expect(lines).toHaveLength(2);
  expect(lines[0]).toContain("not cached on disk");
  await content.close();
});

test("a cache directory that cannot be made is done without", async () => {
  const file = path.join(await makeTempDir("content"), "file");
  writeFileSync(file, "");
  const { logger, lines } = warnings();
  const { archive, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir: file, logger });
  await expectWhole(content, archive);
  await expectWhole(content, archive);
  expect(lines).toHaveLength(1);
  expect(statSync(file).size).toBe(0);
});

test("two readers on one directory fetch what the other has not", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const cacheDir = await makeTempDir("content");
  const one = await open(archive, { cacheDir });
  const two = await open(archive, { cacheDir });
  await readFile(two.content, wholeLayer(archive), 0, 1);
  await expectWhole(one.content, archive);
  await expect
    .poll(async () => {
      await expectWhole(two.content, archive);
      return two.content.counters.get("disk_spans_total");
    })
    .toBeGreaterThan(0);
  const spans = archive.layers[0]!.spanCount;
  expect(one.content.counters.get("fetched_bytes_total")).toBeGreaterThan(0);
  expect(two.content.counters.get("network_spans_total")).toBeLessThan(spans);
  // Both at once, through each other's writes.
  await rm(cacheDir, { recursive: true });
  await mkdir(cacheDir, { mode: 0o700 });
  const three = await open(archive, { cacheDir, memoryCacheBytes: 0 });
  const four = await open(archive, { cacheDir, memoryCacheBytes: 0 });
  await Promise.all([three, four].map(({ content }) => expectWhole(content, archive)));
  await three.content.close();
  await four.content.close();
  const last = await open(archive, { cacheDir });
  await expectWhole(last.content, archive);
  expect(last.source.requests).toHaveLength(0);
});
