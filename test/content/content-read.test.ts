import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { open, readFile } from "./open-content.js";
import {
  gzipBlob,
  plainBlob,
  randomInteger,
  sampleBytes,
  scanLayers,
  seed,
  spanBounds,
  type TestBlob,
  wholeLayer,
  zstdBlob,
} from "./scanned-layers.js";

const megabyte = 1 << 20;
const layers: Array<[string, () => TestBlob]> = [
  ["gzip with restart points", () => gzipBlob(sampleBytes(megabyte))],
  ["a plain tar", () => plainBlob(sampleBytes(megabyte + 123))],
  ["zstd of one frame", () => zstdBlob(sampleBytes(megabyte))],
  ["zstd of several frames", () => zstdBlob(...[300_000, 70_000, 1, 500_000].map(sampleBytes))],
];

describe.each(layers)("%s", (_, makeBlob) => {
  test("gives the layer's bytes at every offset and length, whatever is cached", async () => {
    for (const cached of ["memory and disk", "disk", "nothing"]) {
      const cacheDir = cached.includes("disk") ? await makeTempDir("content") : undefined;
      const { archive, content } = await open([makeBlob()], {
        ...(cacheDir ? { cacheDir } : {}),
        memoryCacheBytes: cached.includes("memory") ? 8 * megabyte : 0,
      });
      const truth = archive.truths[0]!;
      const file = wholeLayer(archive);
      const span = spanBounds(archive, 1).offset;
      const size = truth.length;
      const offsets = [0, 1, span - 1, span, span + 1, size - 1, size, size + 1];
      const lengths = [0, 1, span, 4096, 128 * 1024];
      for (const offset of offsets)
        for (const length of lengths) {
          const got = await readFile(content, file, offset, length);
          expect(
            got.equals(truth.subarray(offset, offset + length)),
            `${cached}: ${offset}+${length}, seed ${seed}`,
          ).toBe(true);
        }
      for (let i = 0; i < 30; i++) {
        const offset = randomInteger(size);
        const length = randomInteger(200_000);
        const got = await readFile(content, file, offset, length);
        expect(
          got.equals(truth.subarray(offset, offset + length)),
          `${cached}: ${offset}+${length}, seed ${seed}`,
        ).toBe(true);
      }
      expect((await readFile(content, file, 0, size + 10)).equals(truth)).toBe(true);
    }
  });

  test("read by many at once, everything is fetched exactly once", async () => {
    const { archive, source, content } = await open([makeBlob()], { cacheDir: await makeTempDir("content") });
    const file = wholeLayer(archive);
    const truth = archive.truths[0]!;
    const reads = [];
    for (let offset = 0; offset < truth.length; offset += 50_000)
      reads.push(readFile(content, file, offset, 50_000));
    expect(Buffer.concat(await Promise.all(reads)).equals(truth)).toBe(true);
    const fetched = source.requests.reduce((sum, { range }) => sum + range.end - range.start, 0);
    const shared = source.requests.length; // two neighbours share the byte in which one ends and the other begins
    expect(fetched).toBeLessThanOrEqual(archive.layers[0]!.compressedBytes + shared);
    const before = source.requests.length;
    expect((await readFile(content, file, 0, truth.length)).equals(truth)).toBe(true);
    expect(source.requests.length).toBe(before);
  });
});

test("a sparse file reads as its extents with zeros between, before and behind them", async () => {
  const { archive, content } = await open([gzipBlob(sampleBytes(megabyte)), plainBlob(sampleBytes(300_000))]);
  const [first, second] = archive.truths as [Buffer, Buffer];
  const extents = [
    { fileOffset: 1000, length: 200_000, layer: 0, layerOffset: 777 },
    { fileOffset: 201_000, length: 5, layer: 1, layerOffset: 299_995 },
    { fileOffset: 400_000, length: 1, layer: 0, layerOffset: first.length - 1 },
    { fileOffset: 400_010, length: 100_000, layer: 1, layerOffset: 65_530 },
  ];
  const truth = Buffer.alloc(600_000);
  for (const { fileOffset, length, layer, layerOffset } of extents)
    truth.set([first, second][layer]!.subarray(layerOffset, layerOffset + length), fileOffset);
  const file = { extents, fileBytes: truth.length };
  expect((await readFile(content, file, 0, truth.length)).equals(truth)).toBe(true);
  for (let i = 0; i < 200; i++) {
    const offset = randomInteger(truth.length);
    const length = randomInteger(150_000);
    const got = await readFile(content, file, offset, length);
    expect(got.equals(truth.subarray(offset, offset + length)), `${offset}+${length}, seed ${seed}`).toBe(
      true,
    );
  }
  expect(await readFile(content, file, truth.length, 10)).toHaveLength(0);
  expect(await readFile(content, file, truth.length + 5, 10)).toHaveLength(0);
});

test("a file that is only a hole needs no registry", async () => {
  const { source, content } = await open([plainBlob(sampleBytes(1000))]);
  expect(
    (await readFile(content, { extents: [], fileBytes: 5000 }, 100, 9000)).equals(Buffer.alloc(4900)),
  ).toBe(true);
  expect(source.requests).toHaveLength(0);
});

test("a read is served by the network first, then by memory, and by disk where memory has let go", async () => {
  const { archive, content } = await open([gzipBlob(sampleBytes(megabyte))], {
    cacheDir: await makeTempDir("content"),
    memoryCacheBytes: 5 * 64 * 1024,
  });
  const file = wholeLayer(archive);
  const paths = () => {
    const { network_spans_total, memory_spans_total, disk_spans_total } = content.counters.snapshot();
    return { network: network_spans_total, memory: memory_spans_total, disk: disk_spans_total };
  };
  await readFile(content, file, 100, 1000);
  expect(paths()).toEqual({ network: 1, memory: 0, disk: 0 });
  await readFile(content, file, 5000, 1000);
  expect(paths()).toEqual({ network: 1, memory: 1, disk: 0 });
  const spans = archive.layers[0]!.spanCount;
  await readFile(content, file, 0, archive.truths[0]!.length);
  expect(paths()).toEqual({ network: spans, memory: 2, disk: 0 });
  await expect
    .poll(async () => {
      const before = paths();
      await readFile(content, file, 5000, 1000);
      return paths().disk - before.disk;
    })
    .toBe(1);
});

test("adjacent missing spans of one read go out as one request", async () => {
  const { archive, source, content } = await open([gzipBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  const { offset } = spanBounds(archive, 3);
  const end = spanBounds(archive, 8).offset;
  await readFile(content, file, offset, end - offset);
  expect(source.requests).toHaveLength(1);
  expect(source.requests[0]!.range).toEqual({
    start: archive.span(3).compressedStart,
    end: archive.span(7).compressedEnd,
  });
  expect(content.counters.get("network_spans_total")).toBe(5);
});

test("spans that are there are not fetched again between those that are not", async () => {
  const { archive, source, content } = await open([plainBlob(sampleBytes(megabyte))]);
  const file = wholeLayer(archive);
  await readFile(content, file, spanBounds(archive, 4).offset, 1);
  await readFile(
    content,
    file,
    spanBounds(archive, 2).offset,
    spanBounds(archive, 7).offset - spanBounds(archive, 2).offset,
  );
  expect(source.requests.slice(1).map(({ range }) => range)).toEqual([
    { start: archive.span(2).compressedStart, end: archive.span(3).compressedEnd },
    { start: archive.span(5).compressedStart, end: archive.span(6).compressedEnd },
  ]);
});

test("a layer that the image lists twice is fetched once", async () => {
  const blob = gzipBlob(sampleBytes(400_000));
  const { archive, source, content } = await open([blob, plainBlob(sampleBytes(1000)), blob], {
    cacheDir: await makeTempDir("content"),
  });
  const one = await readFile(content, wholeLayer(archive, 0), 0, 400_000);
  const requests = source.requests.length;
  const two = await readFile(content, wholeLayer(archive, 2), 0, 400_000);
  expect(one.equals(blob.truth) && two.equals(blob.truth)).toBe(true);
  expect(source.requests).toHaveLength(requests);
});

test("a buffer larger than what is asked for at a time is filled all the same", async () => {
  const blob = plainBlob(randomBytes(34 * megabyte));
  const archive = await scanLayers([blob], megabyte);
  const { content } = await open(archive, { memoryCacheBytes: 4 * megabyte });
  const got = await readFile(content, wholeLayer(archive), 0, blob.truth.length);
  expect(got.equals(blob.truth)).toBe(true);
});
