import { rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { Gate, unavailable } from "./memory-source.js";
import { open, readFile } from "./open-content.js";
import {
  gzipBlob,
  plainBlob,
  randomInteger,
  sampleBytes,
  scanLayers,
  seed,
  spanBounds,
  wholeLayer,
  zstdBlob,
} from "./scanned-layers.js";

const megabyte = 1 << 20;
const never = new AbortController().signal;

let cacheDir: string;
beforeEach(async () => {
  cacheDir = await makeTempDir("content");
});

async function makeFile(): Promise<string> {
  const file = path.join(cacheDir, "file");
  await writeFile(file, "");
  return file;
}

test("what is prefetched is read without another request, and counted", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  const report = await content.prefetch([9, 2, 3, 4], never);
  expect(report).toMatchObject({ spans: 4, requests: 2, failure: undefined });
  expect(source.requests.map(({ range }) => range)).toEqual([
    { start: archive.span(9).compressedStart, end: archive.span(9).compressedEnd },
    { start: archive.span(2).compressedStart, end: archive.span(4).compressedEnd },
  ]);
  for (const span of [2, 3, 4, 9]) {
    const { offset, length } = spanBounds(archive, span);
    const bytes = await readFile(content, wholeLayer(archive), offset, length);
    expect(bytes.equals(archive.truths[0]!.subarray(offset, offset + length))).toBe(true);
  }
  expect(source.requests).toHaveLength(2);
  expect(content.counters.snapshot()).toMatchObject({ prefetched_spans_total: 4, touched_spans_total: 4 });
});

test("the source is told at once of a prefetch of a layer that this host knows nothing of, and of no other", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const first = await open(archive, { cacheDir });
  const prefetch = first.content.prefetch([1], never);
  expect(first.source.connectedAhead).toBe(1);
  await prefetch;
  await first.content.prefetch([2], never);
  await first.content.close();
  const second = await open(archive, { cacheDir });
  await second.content.prefetch([], never);
  await second.content.prefetch([1, 2, 3], never);
  expect(first.source.connectedAhead + second.source.connectedAhead).toBe(1);
  const alone = await open(archive, {});
  await alone.content.prefetch([1], never);
  expect(alone.source.connectedAhead).toBe(1);
});

test("a second prefetch of the same spans asks for nothing, while the first runs and after it", async () => {
  const { source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const first = content.prefetch([1, 2, 3], never);
  await expect.poll(() => source.open).toBe(1);
  expect(await content.prefetch([1, 2, 3], never)).toMatchObject({ spans: 0 });
  gate.open();
  await first;
  expect(await content.prefetch([3, 1, 2], never)).toMatchObject({ spans: 0 });
  expect(source.requests).toHaveLength(1);
});

test("a reader joins a prefetch that is about to bring its span", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const prefetch = content.prefetch([2, 3, 4], never);
  await expect.poll(() => source.open).toBe(1);
  const { offset, length } = spanBounds(archive, 3);
  const read = readFile(content, wholeLayer(archive), offset, length);
  await expect.poll(() => content.inFlight()).toMatchObject([{ waiting: 1 }]);
  gate.open();
  expect((await read).equals(archive.truths[0]!.subarray(offset, offset + length))).toBe(true);
  await prefetch;
  expect(source.requests).toHaveLength(1);
});

test("a reader joins a prefetch whose next span is its own, however long spans are", async () => {
  const archive = await scanLayers([plainBlob(sampleBytes(4 * megabyte))], 2 * megabyte);
  const { source, content } = await open(archive, { cacheDir });
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const prefetch = content.prefetch([0], never);
  await expect.poll(() => source.open).toBe(1);
  const read = readFile(content, wholeLayer(archive), 0, 100);
  await expect.poll(() => content.inFlight()).toMatchObject([{ waiting: 1 }]);
  gate.open();
  expect((await read).equals(archive.truths[0]!.subarray(0, 100))).toBe(true);
  await prefetch;
  expect(source.requests).toHaveLength(1);
});

test("while bytes arrive that a reader waits for, a prefetch takes none; it goes on afterwards", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(4 * megabyte))], { cacheDir });
  const bounds = spanBounds(archive, 60);
  const taken: string[] = [];
  const [arriving, going] = [new Gate(), new Gate()];
  const held = new Gate();
  source.faults.piece = async (piece, at, request) => {
    const isDemand = request.range.start === archive.span(60).compressedStart;
    if (isDemand && at > request.range.start) await held.opened;
    if (!isDemand && at === request.range.start) await going.opened;
    taken.push(isDemand ? "demand" : "prefetch");
    if (isDemand) arriving.open();
    return piece;
  };
  const prefetch = content.prefetch([4, 5, 6, 7], never);
  await expect.poll(() => source.open).toBe(1);
  const read = readFile(content, wholeLayer(archive), bounds.offset, bounds.length);
  await arriving.opened;
  going.open();
  // One piece is on its way when the reader's bytes come; no other is asked for.
  await expect.poll(() => taken).toEqual(["demand", "prefetch"]);
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(taken).toEqual(["demand", "prefetch"]);
  held.open();
  await read;
  expect(await prefetch).toMatchObject({ spans: 4, failure: undefined });
});

test("a reader far behind in a long fill makes a request of its own", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(4 * megabyte))], { cacheDir });
  const gate = new Gate();
  source.faults.before = ({ number }) => (number === 0 ? gate.opened : undefined);
  const fill = content.fill({ urgency: "fill", signal: never });
  await expect.poll(() => source.open).toBe(1);
  const { offset, length } = spanBounds(archive, 50);
  await readFile(content, wholeLayer(archive), offset, length);
  expect(source.requests).toHaveLength(2);
  gate.open();
  expect(await fill).toMatchObject({ spans: 64, presentSpans: 64 });
});

test("a fill makes few long requests over what is missing, and afterwards nothing is asked for", async () => {
  const blobs = [gzipBlob(sampleBytes(2 * megabyte)), plainBlob(sampleBytes(megabyte))];
  const { archive, source, content } = await open([...blobs, blobs[0]!], { cacheDir });
  await content.prefetch([7], never);
  await expect
    .poll(() => content.presence())
    .toMatchObject({
      presentSpans: 1,
      spans: archive.layers[0]!.spanCount + 16,
    });
  const before = await content.presence();
  let progress = before.presentCompressedBytes;
  const presence = await content.fill({
    urgency: "fill",
    signal: never,
    onProgress: (_layer, bytes) => {
      progress += bytes;
    },
  });
  expect(presence.presentSpans).toBe(presence.spans);
  expect(progress).toBe(presence.compressedBytes);
  // Before and behind the span that was there, and the other layer.
  expect(source.requests).toHaveLength(1 + 2 + 1);
  source.faults.before = () => {
    throw unavailable();
  };
  for (const layer of [0, 1, 2]) {
    const file = wholeLayer(archive, layer);
    expect((await readFile(content, file, 0, file.fileBytes)).equals(archive.truths[layer]!)).toBe(true);
  }
  expect(source.requests).toHaveLength(4);
});

test("a fill that was ended goes on where it stopped, in another process", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  const stop = new AbortController();
  const presence = await content.fill({
    urgency: "fill",
    signal: stop.signal,
    onProgress: () => {
      if (source.requests.length === 1) stop.abort();
    },
  });
  await content.close();
  expect(presence.presentSpans).toBeLessThan(presence.spans);
  const again = await open(archive, { cacheDir });
  const { presentCompressedBytes } = await again.content.presence();
  expect(presentCompressedBytes).toBeGreaterThan(0);
  expect(await again.content.fill({ urgency: "ahead", signal: never })).toMatchObject({ presentSpans: 32 });
  const asked = again.source.requests.reduce((sum, { range }) => sum + range.end - range.start, 0);
  expect(asked).toBe(2 * megabyte - presentCompressedBytes);
});

test("a fill with a rate takes no more than its rate, and can be ended while it waits", async () => {
  const { source, content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  let pieces = 0;
  source.faults.piece = (piece) => {
    pieces++;
    return piece;
  };
  const stop = new AbortController();
  // The first piece is free, the second would have to wait for hours.
  const fill = content.fill({ urgency: "fill", bytesPerSecond: 1, signal: stop.signal });
  await expect.poll(() => pieces).toBe(2);
  stop.abort();
  expect(await fill).toMatchObject({ presentSpans: 0 });
  expect(pieces).toBe(2);
});

test("a fill asks for nothing while a reader waits", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const read = readFile(content, wholeLayer(archive), 0, 100);
  await expect.poll(() => source.requests.length).toBe(1);
  for (const how of [{ idle: true }, { bytesPerSecond: 1e9 }, {}]) {
    const stop = new AbortController();
    const fill = content.fill({ urgency: "fill", signal: stop.signal, ...how });
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    expect(source.requests).toHaveLength(1);
    stop.abort();
    await fill;
  }
  gate.open();
  await read;
  expect(await content.fill({ urgency: "fill", signal: never })).toMatchObject({ presentSpans: 32 });
});

test("a fill says what the registry failed with, and one that persists does not", async () => {
  const { source, content } = await open([plainBlob(sampleBytes(megabyte))], { cacheDir });
  source.faults.before = () => {
    throw unavailable();
  };
  await expect(content.fill({ urgency: "ahead", signal: never })).rejects.toMatchObject({
    code: "REGISTRY_UNAVAILABLE",
  });
  const stop = new AbortController();
  const fill = content.fill({ urgency: "fill", persist: true, signal: stop.signal });
  await expect.poll(() => source.requests.length).toBeGreaterThan(1);
  stop.abort();
  expect(await fill).toMatchObject({ presentSpans: 0 });
});

test.each([
  ["without a disk cache", async () => undefined],
  ["where the cache directory cannot be used", async () => path.join(await makeFile(), "cache")],
])("%s there is nothing to fill, and a prefetch takes half of the memory cache", async (_, place) => {
  const dir = await place();
  const options = { memoryCacheBytes: megabyte, ...(dir ? { cacheDir: dir } : {}) };
  const { content, source } = await open([plainBlob(sampleBytes(2 * megabyte))], options);
  await expect(content.fill({ urgency: "fill", persist: true, signal: never })).rejects.toMatchObject({
    code: "LOCAL_IO",
  });
  expect(source.requests).toEqual([]);
  const spans = Array.from({ length: 32 }, (_, span) => span);
  expect(await content.prefetch(spans, never)).toMatchObject({ spans: 8 });
});

test("a fill that finds all that is missing under way waits for it", async () => {
  const { source, content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const spans = Array.from({ length: 32 }, (_, span) => span);
  const prefetch = content.prefetch(spans, never);
  await expect.poll(() => source.open).toBe(2);
  const fill = content.fill({ urgency: "fill", signal: never });
  await content.presence();
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  gate.open();
  expect(await fill).toMatchObject({ spans: 32, presentSpans: 32 });
  expect(await prefetch).toMatchObject({ spans: 32 });
  expect(source.requests).toHaveLength(2);
});

test("spans that come while the cache makes room are fetched again when it has", async () => {
  let isMakingRoom = false;
  let looks = 0;
  const limits = {
    mayWrite: () => !isMakingRoom,
    onWritten: () => {
      if (looks++ === 0) isMakingRoom = true;
    },
    settled: async () => {
      isMakingRoom = false;
    },
  };
  const { content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir, limits });
  expect(await content.fill({ urgency: "ahead", signal: never })).toMatchObject({
    spans: 32,
    presentSpans: 32,
  });
});

test("files that are given up while a span is written to them say nothing of the registry", async () => {
  const { decoderNextStored } = loadNative();
  let isFirst = true;
  const native = {
    decoderNextStored: async (...args: Parameters<typeof decoderNextStored>) => {
      const decoded = await decoderNextStored(...args);
      if (isFirst && decoded === true) {
        isFirst = false;
        rmSync(path.join(cacheDir, "layers"), { recursive: true });
        opened.cache!.releaseStale();
      }
      return decoded;
    },
  };
  const opened = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir, native });
  const { content } = opened;
  expect(await content.fill({ urgency: "fill", signal: never })).toMatchObject({ presentSpans: 32 });
  expect(content.counters.snapshot()).toMatchObject({ verification_failures_total: 0 });
});

test("a fill of more than the cache may hold ends, and says so", async () => {
  const { archive, content, source } = await open([plainBlob(sampleBytes(2 * megabyte))], {
    cacheDir,
    limits: { onWritten: () => rmSync(path.join(cacheDir, "layers"), { recursive: true, force: true }) },
  });
  await expect(content.fill({ urgency: "fill", persist: true, signal: never })).rejects.toMatchObject({
    code: "LOCAL_IO",
  });
  const asked = source.requests.reduce((sum, { range }) => sum + range.end - range.start, 0);
  expect(asked).toBeLessThanOrEqual(2 * archive.layers[0]!.compressedBytes);
});

test("a fill brings all but what the registry has wrong, and says what that is", async () => {
  const { content, source } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  source.faults.piece = (piece, at) => {
    if (at <= 5 * 65536 && at + piece.length > 5 * 65536) piece[5 * 65536 - at]! ^= 1;
    return piece;
  };
  await expect(content.fill({ urgency: "fill", persist: true, signal: never })).rejects.toMatchObject({
    code: "DIGEST_MISMATCH",
  });
  expect(await content.presence()).toMatchObject({ spans: 32, presentSpans: 31 });
});

test("a prefetch that fails costs readers nothing", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  source.faults.before = ({ number }) => {
    if (number === 0) throw unavailable();
  };
  expect(await content.prefetch([1, 2, 3], never)).toMatchObject({
    failure: { code: "REGISTRY_UNAVAILABLE" },
  });
  const file = wholeLayer(archive);
  expect((await readFile(content, file, 0, file.fileBytes)).equals(archive.truths[0]!)).toBe(true);
});

test("damaged bytes are found in what is prefetched as in what is read", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  source.faults.piece = (piece, _at, { number }) => {
    if (number === 0) piece[piece.length >> 1]! ^= 0x10;
    return piece;
  };
  expect(await content.prefetch([1, 2, 3, 4], never)).toMatchObject({ failure: undefined });
  expect(content.counters.snapshot()).toMatchObject({ verification_failures_total: 1 });
  const { offset } = spanBounds(archive, 1);
  const bytes = await readFile(content, wholeLayer(archive), offset, 2 * 65536);
  expect(bytes.equals(archive.truths[0]!.subarray(offset, offset + 2 * 65536))).toBe(true);
});

test("a reader that goes on is read ahead for; one that jumps is not, nor one on a foretold way", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(4 * megabyte))], {
    cacheDir,
    readAhead: true,
  });
  const read = (span: number) =>
    readFile(content, wholeLayer(archive), spanBounds(archive, span).offset, 100);
  // So that one answer that is late does not make the link a long one.
  const before = [6, 14, 24, 34, 44, 54, 60];
  for (const span of before) await content.prefetch([span], never);
  const asked = () => new Set(source.requests.slice(before.length).map(({ range }) => range.start / 65536));
  for (const span of [10, 40, 20]) await read(span);
  await expect.poll(() => content.inFlight()).toEqual([]);
  expect(asked()).toEqual(new Set([10, 40, 20]));
  await content.prefetch([50, 51, 52], never);
  for (const span of [50, 51, 52]) await read(span);
  expect(asked()).toEqual(new Set([10, 40, 20, 50]));
  for (const span of [1, 2]) await read(span);
  await expect.poll(async () => (await content.presence()).presentSpans).toBe(before.length + 3 + 3 + 4);
  expect(asked()).toContain(3);
});

test("around a miss that costs a round trip, as much is asked for as the link carries meanwhile", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(4 * megabyte))], {
    cacheDir,
    readAhead: true,
  });
  // A link with 40 ms of round trip, over which half a megabyte comes at once.
  source.faults.before = () => new Promise((resolve) => setTimeout(resolve, 40));
  const file = wholeLayer(archive);
  await readFile(content, file, 0, 8 * 65536);
  await expect.poll(() => content.inFlight()).toEqual([]);
  await readFile(content, file, spanBounds(archive, 40).offset, 100);
  await expect.poll(() => content.inFlight()).toEqual([]);
  const asked = source.requests.map(({ range }) => [range.start / 65536, range.end / 65536]);
  const covers = (span: number) => asked.some(([start, end]) => span >= start! && span < end!);
  expect([39, 40, 41, 42].map(covers)).toEqual([true, true, true, true]);
  expect([20, 30, 60].map(covers)).toEqual([false, false, false]);
  // What is cached costs no round trip: nothing is asked for around it.
  const { length } = source.requests;
  await readFile(content, file, spanBounds(archive, 4).offset, 100);
  expect(source.requests).toHaveLength(length);
});

test("what is fetched for nobody ends with the wish for it, in a layer that can only be decoded from its beginning too", async () => {
  const { source, content } = await open([zstdBlob(sampleBytes(2 * megabyte))], {
    cacheDir,
    readDeadlineMs: 600_000,
  });
  source.faults.before = () => new Promise(() => {});
  const stop = new AbortController();
  const fill = content.fill({ urgency: "ahead", signal: stop.signal });
  await expect.poll(() => source.open).toBe(1);
  stop.abort();
  expect(await fill).toMatchObject({ presentSpans: 0 });
  expect(content.inFlight()).toEqual([]);
});

test("closing ends a prefetch, a fill and read-ahead", async () => {
  const { source, content } = await open([plainBlob(sampleBytes(2 * megabyte))], { cacheDir });
  source.faults.before = () => new Promise(() => {});
  const prefetch = content.prefetch([1, 9], never);
  const fill = content.fill({ urgency: "fill", persist: true, signal: never });
  await expect.poll(() => source.open).toBeGreaterThan(1);
  await content.close();
  expect(await prefetch).toMatchObject({ spans: 2 });
  expect(await fill).toMatchObject({ presentSpans: 0 });
  expect(source.open).toBe(0);
});

test(`readers, prefetches and a fill beside each other, over a source that fails now and then (seed ${seed})`, async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(2 * megabyte))], {
    cacheDir,
    readAhead: true,
  });
  source.faults.before = () => {
    if (randomInteger(5) === 0) throw unavailable();
  };
  source.faults.piece = (piece) => {
    if (randomInteger(40) === 0) piece[0]! ^= 1;
    return piece;
  };
  const file = wholeLayer(archive);
  const stop = new AbortController();
  const fill = content.fill({ urgency: "fill", persist: true, signal: stop.signal });
  const count = archive.layers[0]!.spanCount;
  const work = async () => {
    for (let turn = 0; turn < 60; turn++) {
      const offset = randomInteger(file.fileBytes);
      const length = 1 + randomInteger(200_000);
      if (turn % 6 === 0)
        await content.prefetch(
          Array.from({ length: 5 }, () => randomInteger(count)),
          never,
        );
      const bytes = await readFile(content, file, offset, length).catch(() => undefined);
      if (bytes) expect(bytes.equals(archive.truths[0]!.subarray(offset, offset + length))).toBe(true);
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  stop.abort();
  await fill;
  source.faults = {};
  expect((await readFile(content, file, 0, file.fileBytes)).equals(archive.truths[0]!)).toBe(true);
  await expect.poll(() => content.inFlight()).toEqual([]);
});
