import { expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { Gate, unavailable } from "./memory-source.js";
import { open, readFile } from "./open-content.js";
import { gzipBlob, plainBlob, sampleBytes, spanBounds, wholeLayer, zstdBlob } from "./scanned-layers.js";

const megabyte = 1 << 20;
const kinds = [
  ["gzip", () => gzipBlob(sampleBytes(megabyte))],
  ["plain", () => plainBlob(sampleBytes(megabyte))],
  ["zstd", () => zstdBlob(sampleBytes(megabyte))],
] as const;

function flipped(piece: Buffer): Buffer {
  piece[piece.length >> 1]! ^= 0x10;
  return piece;
}

test.each(kinds)("a flipped byte in what the registry sends is fetched again: %s", async (_, makeBlob) => {
  const { archive, source, content } = await open([makeBlob()], { cacheDir: await makeTempDir("content") });
  source.faults.piece = (piece, _at, { number }) => (number === 0 ? flipped(piece) : piece);
  const bytes = await readFile(content, wholeLayer(archive), 0, megabyte);
  expect(bytes.equals(archive.truths[0]!)).toBe(true);
  expect(source.requests.map((request) => request.afterDamage)).toEqual([false, true]);
  expect(content.counters.get("verification_failures_total")).toBe(1);
});

test.each(kinds)(
  "a registry that keeps lying gets EIO, never wrong bytes, and is believed again later: %s",
  async (_, makeBlob) => {
    const { archive, source, content } = await open([makeBlob()], { cacheDir: await makeTempDir("content") });
    const file = wholeLayer(archive);
    source.faults.piece = flipped;
    await expect(readFile(content, file, 0, 1000)).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
      message: expect.stringContaining(archive.layers[0]!.digest),
    });
    expect(source.requests).toHaveLength(3);
    expect(content.counters.get("read_failures_total")).toBe(1);
    source.faults = {};
    expect((await readFile(content, file, 0, 1000)).equals(archive.truths[0]!.subarray(0, 1000))).toBe(true);
  },
);

test("one span that the registry has wrong does not fail its neighbours", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], {
    cacheDir: await makeTempDir("content"),
  });
  const file = wholeLayer(archive);
  const { compressedStart, compressedEnd } = archive.span(3);
  const broken = (compressedStart + compressedEnd) >> 1;
  source.faults.piece = (piece, at) => {
    if (at <= broken && broken < at + piece.length) piece[broken - at]! ^= 1;
    return piece;
  };
  const whole = readFile(content, file, 0, megabyte);
  const others = [2, 4, 5].map((index) => spanBounds(archive, index));
  const neighbours = others.map(({ offset, length }) => readFile(content, file, offset, length));
  await expect(whole).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  for (const [i, bytes] of (await Promise.all(neighbours)).entries()) {
    const { offset, length } = others[i]!;
    expect(bytes.equals(archive.truths[0]!.subarray(offset, offset + length))).toBe(true);
  }
});

test.each(kinds)("a body that ends early is fetched again: %s", async (_, makeBlob) => {
  const { archive, source, content } = await open([makeBlob()]);
  source.faults.piece = (piece, at, { number }) => (number === 0 && at > 50_000 ? Buffer.alloc(0) : piece);
  const bytes = await readFile(content, wholeLayer(archive), 0, megabyte);
  expect(bytes.equals(archive.truths[0]!)).toBe(true);
  expect(content.counters.get("verification_failures_total")).toBeGreaterThan(0);
});

test("a registry that fails fails the read at once and is asked again by the next", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  source.faults.before = () => {
    throw unavailable();
  };
  for (let i = 1; i <= 3; i++) {
    await expect(readFile(content, file, 0, 10)).rejects.toMatchObject({ code: "REGISTRY_UNAVAILABLE" });
    expect(source.requests).toHaveLength(i);
  }
  source.faults = {};
  expect((await readFile(content, file, 0, 10)).equals(archive.truths[0]!.subarray(0, 10))).toBe(true);
  expect(content.counters.get("read_failures_total")).toBe(3);
});

test("a registry that does not answer fails the read at its deadline, and reads are good again when it is back", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))], { readDeadlineMs: 300 });
  const file = wholeLayer(archive);
  source.faults.before = () => new Gate().opened;
  await expect(readFile(content, file, 0, 10)).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
  source.faults = {};
  expect((await readFile(content, file, 0, 10)).equals(archive.truths[0]!.subarray(0, 10))).toBe(true);
  await content.close();
  expect(source.open).toBe(0);
});

test("a connection that drips does not hold up the readers that keep joining it for ever", async () => {
  const { archive, source, content } = await open([zstdBlob(sampleBytes(megabyte))], {
    readDeadlineMs: 400,
    cacheDir: await makeTempDir("content"),
  });
  const file = wholeLayer(archive);
  source.faults.piece = async (piece, _at, { number }) => {
    if (number === 0) await new Promise((resolve) => setTimeout(resolve, 350));
    return piece;
  };
  // Overlapping readers, so that the first request is never without one.
  const outcomes: string[] = [];
  const readers = [0, 1].map(async (offset) => {
    await new Promise((resolve) => setTimeout(resolve, offset * 200));
    while (!outcomes.includes("ok") && outcomes.length < 20) {
      const outcome = await readFile(content, file, 900_000 + offset, 10).then(
        (bytes) =>
          bytes.equals(archive.truths[0]!.subarray(900_000 + offset, 900_010 + offset)) ? "ok" : "wrong",
        (error) => error.code as string,
      );
      outcomes.push(outcome);
    }
  });
  await Promise.all(readers);
  expect(outcomes).toContain("ok");
  expect(outcomes).not.toContain("wrong");
});

test("an archive that names other bytes than the blob has never serves them", async () => {
  const blob = plainBlob(sampleBytes(300_000));
  const { archive } = await open([blob]);
  const forged = { ...archive, blobs: new Map([[blob.digest, Buffer.alloc(blob.blob.length, 1)]]) };
  const { content } = await open(forged);
  await expect(readFile(content, wholeLayer(archive), 0, 10)).rejects.toMatchObject({
    code: "DIGEST_MISMATCH",
  });
});
