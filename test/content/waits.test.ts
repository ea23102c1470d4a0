import { expect, test } from "vitest";
import { countOf } from "../../src/base/histogram.js";
import { monotonicMs } from "../../src/base/monotonic-clock.js";
import { FinishedWaits } from "../../src/content/finished-waits.js";
import { makeTempDir } from "../support/temp-dir.js";
import { Gate, unavailable } from "./memory-source.js";
import { open, readFile } from "./open-content.js";
import { gzipBlob, sampleBytes, spanBounds, wholeLayer } from "./scanned-layers.js";

const megabyte = 1 << 20;

test("a miss is waited for, and the time comes apart into network, inflate and queue", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const gate = new Gate();
  source.faults.piece = async (piece, at, { range }) => {
    if (at > range.start) await gate.opened;
    return piece;
  };
  const { offset, length } = spanBounds(archive, 3);
  const reading = readFile(content, wholeLayer(archive), offset, length);
  // What has come is inflated, and the rest does not come.
  await expect.poll(() => content.inFlight()).toMatchObject([{ phase: "network", arrivedBytes: 16 * 1024 }]);
  const heldSinceMs = monotonicMs();
  expect(content.waits()).toMatchObject({ waiting: 1, waitingLongest: [{ span: 3 }], slowest: [] });
  const heldMs = monotonicMs() - heldSinceMs;
  gate.open();
  await reading;

  const report = content.waits();
  expect(report).toMatchObject({ waiting: 0, waitingLongest: [], unserved: 0 });
  expect(countOf(report.landed.network)).toBe(1);
  expect([countOf(report.landed.memory), countOf(report.landed.cache)]).toEqual([0, 0]);
  const [slowest] = report.slowest;
  expect(slowest).toMatchObject({ span: 3, source: "network" });
  expect(slowest!.networkMs).toBeGreaterThanOrEqual(heldMs);
  expect(slowest!.inflateMs).toBeGreaterThan(0);
  expect(slowest!.networkMs + slowest!.inflateMs + slowest!.queueMs).toBeLessThanOrEqual(slowest!.ms);
  expect(report.landed.network.sum).toBeCloseTo(slowest!.ms / 1000, 9);
  expect(report.phases.network.sum).toBeCloseTo(slowest!.networkMs / 1000, 9);
});

test("who joins a fetch is charged with what it did from then on", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const gate = new Gate();
  source.faults.before = () => gate.opened;
  const { offset, length } = spanBounds(archive, 0);
  const first = readFile(content, wholeLayer(archive), offset, length);
  await expect.poll(() => source.requests.length).toBe(1);
  const second = readFile(content, wholeLayer(archive), offset, length);
  await expect.poll(() => content.inFlight()).toMatchObject([{ waiting: 2 }]);
  gate.open();
  await Promise.all([first, second]);
  const { waits, isComplete } = content.firstWaits();
  expect(isComplete).toBe(true);
  expect(waits.map(({ source: from }) => from)).toEqual(["network", "network"]);
  const [early, late] = [...waits].sort((a, b) => a.beganMs - b.beganMs);
  expect(late!.beganMs).toBeGreaterThan(early!.beganMs);
  expect(late!.networkMs).toBeLessThan(early!.networkMs);
});

test("a span from disk is the cache's, and what failed is unserved", async () => {
  const cacheDir = await makeTempDir("waits");
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { cacheDir });
  const { offset, length } = spanBounds(archive, 1);
  await readFile(content, wholeLayer(archive), offset, length);
  await content.close();

  const again = await open(archive, { cacheDir });
  await readFile(again.content, wholeLayer(archive), offset, length);
  again.source.faults.before = () => {
    throw unavailable();
  };
  await expect(readFile(again.content, wholeLayer(archive), 0, 10)).rejects.toThrow(/registry is down/);
  const report = again.content.waits();
  expect(countOf(report.landed.cache)).toBe(1);
  expect(countOf(report.landed.network)).toBe(0);
  expect(report.unserved).toBe(1);
  expect(source.requests).toHaveLength(1);
});

test("reads that nobody who uses the image has asked for are not waited for", async () => {
  const { archive, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const into = Buffer.alloc(100);
  await content.read({ ...wholeLayer(archive), offset: 0, into, aside: true });
  await content.verifyAll({ fetch: true });
  expect(content.firstWaits()).toMatchObject({ readMoments: [], waits: [] });
});

test("what is in flight says what it is doing, how much has come, and which attempt it is", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const gate = new Gate();
  source.faults.piece = async (piece, at, { number, range }) => {
    if (number === 0) return Buffer.alloc(piece.length);
    if (at > range.start) await gate.opened;
    return piece;
  };
  const { offset, length } = spanBounds(archive, 2);
  const reading = readFile(content, wholeLayer(archive), offset, length);
  await expect.poll(() => content.inFlight()).toMatchObject([{ attempt: 2, phase: "network" }]);
  await expect.poll(() => content.inFlight()[0]?.arrivedBytes).toBe(16 * 1024);
  const [run] = content.inFlight();
  const { compressedStart, compressedEnd } = archive.span(2);
  expect(run).toMatchObject({
    urgency: "demand",
    waiting: 1,
    host: undefined,
    requestedBytes: compressedEnd - compressedStart,
  });
  expect(content.counters.get("retries_total")).toBe(1);
  gate.open();
  await reading;
  expect(content.inFlight()).toEqual([]);
});

test("memory is bounded: twenty slowest, and the first 2048 waits", () => {
  const waits = new FinishedWaits();
  for (let span = 0; span < 5000; span++) waits.begin(span)("network");
  expect(waits.report().slowest).toHaveLength(20);
  const ms = waits.report().slowest.map((wait) => wait.ms);
  expect(ms).toEqual([...ms].sort((a, b) => b - a));
  expect(waits.first()).toMatchObject({ isComplete: false });
  expect(waits.first().waits.map(({ span }) => span)).toEqual(Array.from({ length: 2048 }, (_, i) => i));
  expect(countOf(waits.report().landed.network)).toBe(5000);
});
