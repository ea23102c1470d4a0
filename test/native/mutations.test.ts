import zlib from "node:zlib";
import { expect, it } from "vitest";
import type { CompressionName } from "../../src/native/binding.js";
import { mutated } from "../support/mutator.js";
import { gzipMembers, layerBytes, randomIntegers, skippableFrame, zstd, zstdFrames } from "./blobs.js";
import { decode, type Scan, scan } from "./layer-scan.js";

// Another seed: SKIM_TEST_SEED=123 npx vitest run test/native/mutations.test.ts
const seed = Number(process.env.SKIM_TEST_SEED ?? 20260101);
const random = randomIntegers(seed);
const data = layerBytes().subarray(385_000, 420_000);
const blobs: readonly (readonly [CompressionName, Buffer])[] = [
  ["gzip", zlib.gzipSync(data, { memLevel: 2 })],
  ["gzip", gzipMembers(data, 9000)],
  ["gzip", zlib.gzipSync(data, { level: 0 })],
  ["zstd", zstdFrames(data, 9000)],
  ["zstd", Buffer.concat([skippableFrame(Buffer.alloc(9)), zstd(data)])],
  ["none", data],
];
const spanBytes = 4096;

it(`a mutated layer is refused, or scanned to spans that decode to what was scanned (seed ${seed})`, async () => {
  let refused = 0;
  for (let turn = 0; turn < 1200; turn++) {
    const [compression, blob] = blobs[turn % blobs.length]!;
    const bytes = mutated(blob, random);
    const pieceBytes = 1 + random(5000);
    const scanned = await scan(compression, bytes, { spanBytes, pieceBytes }).catch((error) => error);
    if (scanned instanceof Error) {
      expect(scanned).toMatchObject({ code: "LAYER_CORRUPT" });
      refused++;
      continue;
    }
    for (const span of (scanned as Scan).spans.filter((span) => span.restart !== 0)) {
      const compressed = bytes.subarray(span.compressedStart, span.compressedEnd);
      const made = await decode(compression, span.record, span.window, compressed);
      expect(made[0]!.equals(scanned.stream.subarray(span.offset, span.offset + span.length))).toBe(true);
    }
  }
  expect(refused).toBeGreaterThan(400);
});

it(`mutated records, windows and bytes give an error or the right bytes (seed ${seed})`, async () => {
  const scans = await Promise.all(blobs.map(([compression, blob]) => scan(compression, blob, { spanBytes })));
  const outcomes = new Map<string, number>();
  for (let turn = 0; turn < 4000; turn++) {
    const scanned = scans[turn % scans.length]!;
    const restarts = [...scanned.spans.keys()].filter((at) => scanned.spans[at]!.restart !== 0);
    const first = restarts[random(restarts.length)]!;
    const spans = scanned.spans.slice(first, first + 1 + random(3));
    let records = Buffer.concat(spans.map((span) => span.record));
    let window = spans[0]!.window;
    let compressed = scanned.blob.subarray(spans[0]!.compressedStart, spans.at(-1)!.compressedEnd);
    const changes = 1 + random(7);
    if (changes & 1) compressed = mutated(compressed, random);
    if (changes & 2) window = mutated(window, random);
    if (changes & 4) {
      // The digests stay: with another one nothing could come out.
      const at = random(48) + 80 * random(spans.length);
      records = Buffer.from(records);
      records[at]! ^= 1 << random(8);
      if (random(2) === 0) records.writeUInt32LE(window.length, 40);
    }
    const outcome = await decode(scanned.compression, records, window, compressed, 1 + random(3000)).catch(
      (error) => error,
    );
    const code = outcome instanceof Error ? String((outcome as { code?: string }).code) : "bytes";
    outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
    if (outcome instanceof Error) {
      expect(["SPAN_CORRUPT", "SPAN_DIGEST"]).toContain(code);
      continue;
    }
    for (const [number, bytes] of (outcome as Buffer[]).entries()) {
      const { offset, length } = spans[number]!;
      expect(bytes.equals(scanned.stream.subarray(offset, offset + length))).toBe(true);
    }
  }
  // The loop is worth something only if it reaches all three ends.
  for (const end of ["bytes", "SPAN_CORRUPT", "SPAN_DIGEST"]) expect(outcomes.get(end)).toBeGreaterThan(20);
});
