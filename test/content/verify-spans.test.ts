import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { unavailable } from "./memory-source.js";
import { open, readFile } from "./open-content.js";
import { gzipBlob, plainBlob, sampleBytes, scanLayers, wholeLayer, zstdBlob } from "./scanned-layers.js";

const megabyte = 1 << 20;

function progressOf() {
  const tasks: Array<{ label: string; total: number | undefined; advanced: number; done: boolean }> = [];
  const start = (label: string, total: number | undefined) => {
    const task = { label, total, advanced: 0, done: false };
    tasks.push(task);
    return {
      advance(bytes: number) {
        task.advanced += bytes;
      },
      done() {
        task.done = true;
      },
    };
  };
  return { tasks, progress: { start } };
}

test("spans on disk are counted as intact, damaged or missing; the registry is not asked", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte)), plainBlob(sampleBytes(200_000))]);
  const cacheDir = await makeTempDir("content");
  const writer = await open(archive, { cacheDir });
  await readFile(writer.content, wholeLayer(archive), 0, megabyte);
  await writer.content.close();
  const layers = path.join(cacheDir, "layers");
  const names = readdirSync(layers, { recursive: true, encoding: "utf8" });
  const data = path.join(layers, names.find((name) => path.basename(name).startsWith("data-"))!);
  writeFileSync(data, readFileSync(data).fill(0, 10, 20), { flag: "r+" });
  const { content, source } = await open(archive, { cacheDir });
  const { tasks, progress } = progressOf();
  const [first, second] = archive.layers.map((layer) => layer.spanCount) as [number, number];
  const report = { spans: first + second, fetched: 0, failures: [] };
  expect(await content.verifyAll({ progress })).toEqual({
    ...report,
    intact: first - 1,
    damaged: 1,
    missing: second + 1,
  });
  expect(await content.verifyAll()).toEqual({
    ...report,
    intact: first - 1,
    damaged: 0,
    missing: second + 1,
  });
  expect(source.requests).toHaveLength(0);
  expect(tasks).toMatchObject(
    archive.layers.map(({ digest, uncompressedBytes }) => ({
      label: digest,
      total: uncompressedBytes,
      advanced: uncompressedBytes,
      done: true,
    })),
  );
});

test("what is missing is fetched once, verified and kept", async () => {
  const shared = gzipBlob(sampleBytes(megabyte));
  const archive = await scanLayers([
    shared,
    zstdBlob(sampleBytes(2 * megabyte)),
    shared,
    plainBlob(sampleBytes(9)),
  ]);
  const cacheDir = await makeTempDir("content");
  const { content, source } = await open(archive, { cacheDir, memoryCacheBytes: 0 });
  const spans = archive.layers[0]!.spanCount + archive.layers[1]!.spanCount + 1;
  const report = { spans, damaged: 0, missing: 0, failures: [] };
  const { tasks, progress } = progressOf();
  const fetched = await content.verifyAll({ fetch: true, progress });
  expect(fetched).toMatchObject(report);
  expect(fetched.fetched + fetched.intact).toBe(spans);
  expect(source.requests).toHaveLength(3);
  expect(tasks.every(({ total, advanced, done }) => done && total === advanced)).toBe(true);
  expect(await content.verifyAll({ fetch: true })).toEqual({ ...report, intact: spans, fetched: 0 });
});

test("spans that the registry has wrong are named, the others are fetched", async () => {
  const archive = await scanLayers([gzipBlob(sampleBytes(megabyte))]);
  const { content, source } = await open(archive, { cacheDir: await makeTempDir("content") });
  const broken = [2, 5].map(
    (span) => (archive.span(span).compressedStart + archive.span(span).compressedEnd) >> 1,
  );
  source.faults.piece = (piece, at) => {
    for (const offset of broken) if (at <= offset && offset < at + piece.length) piece[offset - at]! ^= 1;
    return piece;
  };
  const { spanCount, digest } = archive.layers[0]!;
  expect(await content.verifyAll({ fetch: true })).toMatchObject({
    spans: spanCount,
    fetched: spanCount - 2,
    failures: [2, 5].map((span) => ({ layer: digest, span, error: { code: "DIGEST_MISMATCH" } })),
  });
});

test("a registry that cannot be reached, and a cancelled call, end it with their error", async () => {
  const { content, source } = await open([gzipBlob(sampleBytes(300_000))]);
  source.faults.before = () => {
    throw unavailable();
  };
  await expect(content.verifyAll({ fetch: true })).rejects.toMatchObject({ code: "REGISTRY_UNAVAILABLE" });
  await expect(content.verifyAll({ signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "CANCELLED",
  });
});
