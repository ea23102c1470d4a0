import { expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { Gate, unavailable } from "./memory-source.js";
import { open, readFile } from "./open-content.js";
import { gzipBlob, plainBlob, sampleBytes, spanBounds, wholeLayer, zstdBlob } from "./scanned-layers.js";

const megabyte = 1 << 20;

test("200 readers of a span make one request", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  const { offset, length } = spanBounds(archive, 2);
  const reads = Array.from({ length: 200 }, (_, i) => readFile(content, file, offset + i, length - i));
  for (const [i, bytes] of (await Promise.all(reads)).entries())
    expect(bytes.equals(archive.truths[0]!.subarray(offset + i, offset + length))).toBe(true);
  expect(source.requests).toHaveLength(1);
  expect(content.counters.snapshot()).toMatchObject({
    reads_total: 200,
    network_spans_total: 200,
    fetch_requests_total: 1,
  });
});

test("a reader is answered when its span is decoded, not when the run ends", async () => {
  const { archive, source, content } = await open([zstdBlob(sampleBytes(2 * megabyte))], {
    cacheDir: await makeTempDir("content"),
  });
  const file = wholeLayer(archive);
  const gate = new Gate();
  source.faults.piece = async (piece, at) => {
    if (at > archive.layers[0]!.compressedBytes / 2) await gate.opened;
    return piece;
  };
  const late = readFile(content, file, file.fileBytes - 10, 10);
  const early = await readFile(content, file, 0, 1000);
  expect(early.equals(archive.truths[0]!.subarray(0, 1000))).toBe(true);
  expect(content.inFlight()).toMatchObject([
    { spanStart: 0, spanEnd: archive.layers[0]!.spanCount, waiting: 1 },
  ]);
  gate.open();
  expect((await late).equals(archive.truths[0]!.subarray(-10))).toBe(true);
  expect(source.requests).toHaveLength(1);
});

test("a layer without restart points is on disk after its first read, fetched once", async () => {
  const cacheDir = await makeTempDir("content");
  const { archive, source, content } = await open([zstdBlob(sampleBytes(2 * megabyte))], { cacheDir });
  await readFile(content, wholeLayer(archive), 0, 1);
  await expect.poll(() => content.inFlight()).toEqual([]);
  await content.close();
  const again = await open(archive, { cacheDir });
  const bytes = await readFile(again.content, wholeLayer(archive), 0, 2 * megabyte);
  expect(bytes.equals(archive.truths[0]!)).toBe(true);
  expect([source.requests.length, again.source.requests.length]).toEqual([1, 0]);
});

test("without a disk cache a layer without restart points is decoded once by a reader that goes through it", async () => {
  const { archive, source, content } = await open([zstdBlob(sampleBytes(4 * megabyte))], {
    memoryCacheBytes: 512 * 1024,
  });
  const file = wholeLayer(archive);
  const pieces = [];
  for (let at = 0; at < file.fileBytes; at += 100_000)
    pieces.push(await readFile(content, file, at, 100_000));
  expect(Buffer.concat(pieces).equals(archive.truths[0]!)).toBe(true);
  expect(source.requests).toHaveLength(1);
  expect((await readFile(content, file, 0, 100)).equals(archive.truths[0]!.subarray(0, 100))).toBe(true);
  expect(source.requests).toHaveLength(2);
});

test("a reader that is cancelled takes nobody with it", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const abort = new AbortController();
  const cancelled = readFile(content, file, 0, 1000, abort.signal);
  const other = readFile(content, file, 500, 1000);
  abort.abort(new Error("interrupted"));
  await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
  gate.open();
  expect((await other).equals(archive.truths[0]!.subarray(500, 1500))).toBe(true);
  expect(source.requests).toHaveLength(1);
  expect(content.counters.get("read_failures_total")).toBe(0);
});

test("a fetch that nobody waits for is aborted, and the next reader starts a new one", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  source.faults.before = () => new Gate().opened;
  const abort = new AbortController();
  const reads = [0, 1, 2].map((at) => readFile(content, file, at, 1000, abort.signal));
  await expect.poll(() => source.open).toBe(1);
  abort.abort();
  for (const read of reads) await expect(read).rejects.toMatchObject({ code: "CANCELLED" });
  await expect.poll(() => source.open).toBe(0);
  source.faults = {};
  expect((await readFile(content, file, 0, 10)).equals(archive.truths[0]!.subarray(0, 10))).toBe(true);
});

test("a signal that has fired before the read does nothing but fail it", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(1000))]);
  await expect(readFile(content, wholeLayer(archive), 0, 10, AbortSignal.abort())).rejects.toMatchObject({
    code: "CANCELLED",
  });
  await content.close();
  expect(source.open).toBe(0);
});

test("the buffer of a read that has failed is not written to any more", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(megabyte))]);
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const abort = new AbortController();
  const into = Buffer.alloc(1000);
  const cancelled = content.read({ ...wholeLayer(archive), offset: 0, into, signal: abort.signal });
  const other = readFile(content, wholeLayer(archive), 0, 1000);
  abort.abort();
  await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
  gate.open();
  await other;
  expect(into.equals(Buffer.alloc(1000))).toBe(true);
});

test("a failure of a run that had begun before is not that of the reader who joined it", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  const gate = new Gate();
  source.faults.before = async ({ number }) => {
    if (number > 0) return;
    await gate.opened;
    throw unavailable();
  };
  const first = readFile(content, file, 0, 10);
  await expect.poll(() => source.open).toBe(1);
  const joined = Array.from({ length: 50 }, () => readFile(content, file, 5, 10));
  gate.open();
  await expect(first).rejects.toMatchObject({ code: "REGISTRY_UNAVAILABLE" });
  for (const bytes of await Promise.all(joined))
    expect(bytes.equals(archive.truths[0]!.subarray(5, 15))).toBe(true);
  expect(source.requests).toHaveLength(2);
});

test("closing fails reads under way, ends their requests and leaves nothing open", async () => {
  const { archive, source, content } = await open(
    [gzipBlob(sampleBytes(megabyte)), zstdBlob(sampleBytes(megabyte))],
    {
      cacheDir: await makeTempDir("content"),
    },
  );
  source.faults.piece = async (piece, at) => {
    if (at > 30_000) await new Gate().opened;
    return piece;
  };
  const reads = [0, 1].flatMap((layer) => {
    const file = wholeLayer(archive, layer);
    return [readFile(content, file, 0, 10), readFile(content, file, 900_000, 10)];
  });
  const settled = Promise.allSettled(reads);
  await expect.poll(() => source.open).toBe(3);
  await content.close();
  await content.close();
  const codes = (await settled).map((read) => (read.status === "fulfilled" ? "ok" : read.reason.code));
  expect(codes.filter((code) => code !== "ok" && code !== "CANCELLED")).toEqual([]);
  expect(codes).toContain("CANCELLED");
  expect(source.open).toBe(0);
  expect(content.inFlight()).toEqual([]);
  await expect(readFile(content, wholeLayer(archive), 500_000, 10)).rejects.toMatchObject({
    code: "CANCELLED",
  });
});
