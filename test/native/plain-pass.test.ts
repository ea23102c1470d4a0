/** A pass without spans, which another inflater makes: it must find the same bytes, digests and faults as the one that notes spans. */
import { describe, expect, it } from "vitest";
import type { CompressionName } from "../../src/native/binding.js";
import { mutated } from "../support/mutator.js";
import { gzipVariants, layerBytes, randomIntegers, skippableFrame, zstd, zstdFrames } from "./blobs.js";
import { scan, sha256 } from "./layer-scan.js";

const seed = Number(process.env.SKIM_TEST_SEED ?? 20261126);
const random = randomIntegers(seed);
const data = layerBytes();

const blobs: Array<readonly [name: string, CompressionName, (data: Buffer) => Buffer]> = [
  ...Object.entries(gzipVariants).map(([name, make]) => [name, "gzip", make] as const),
  ["zstd", "zstd", zstd],
  ["zstd frames", "zstd", (bytes) => zstdFrames(bytes, 100_000)],
  ["plain", "none", (bytes) => bytes],
];

const pass = (compression: CompressionName, blob: Buffer, options: Parameters<typeof scan>[2] = {}) =>
  scan(compression, blob, { spanBytes: 0, ...options });

describe("a pass without spans", () => {
  it.each(blobs)("gives all bytes and both digests of %s, and no spans", async (_, compression, make) => {
    const blob = make(data);
    for (const pieceBytes of [1 << 20, 65_537, 4099]) {
      const found = await pass(compression, blob, { pieceBytes, outputBytes: 100_001 });
      expect(found.stream.equals(data)).toBe(true);
      expect(Buffer.from(found.blobSha256).equals(sha256(blob))).toBe(true);
      expect(Buffer.from(found.uncompressedSha256).equals(sha256(data))).toBe(true);
      expect([found.spans.length, found.windows.length]).toEqual([0, 0]);
    }
  });

  it.each(blobs)(
    "of %s does not depend on how the blob is cut, down to single bytes",
    async (_, compression, make) => {
      const some = data.subarray(390_000, 402_000);
      const blob = make(some);
      for (const pieceBytes of [1, 2, 3, 7])
        expect((await pass(compression, blob, { pieceBytes, outputBytes: 777 })).stream.equals(some)).toBe(
          true,
        );
    },
  );

  it("counts what is behind the last member as the other does", async () => {
    for (const behind of [Buffer.alloc(10_000), Buffer.from("garbage"), Buffer.from([0x1f, 0x8c])]) {
      const blob = Buffer.concat([gzipVariants["level 6"]!(data), behind]);
      expect((await pass("gzip", blob)).trailingBytes).toBe(behind.length);
      expect((await scan("gzip", blob)).trailingBytes).toBe(behind.length);
    }
  });

  it("refuses every blob that ends early", async () => {
    const some = data.subarray(390_000, 394_000);
    for (const name of ["level 6", "all header fields", "a header crc"]) {
      const blob = gzipVariants[name]!(some);
      const cuts = Array.from({ length: 60 }, () => 1 + random(blob.length - 1));
      for (const end of [1, 2, 3, 9, 10, 11, blob.length - 9, blob.length - 1, ...cuts])
        await expect(pass("gzip", blob.subarray(0, end))).rejects.toMatchObject({ code: "LAYER_CORRUPT" });
    }
  });

  it(`refuses the mutated blobs that the other refuses, and gives the bytes that it gives (seed ${seed})`, async () => {
    const some = data.subarray(385_000, 400_000);
    const sources = [
      "level 6",
      "huffman only",
      "fixed huffman",
      "stored blocks only",
      "a member for each file",
      "all header fields",
    ];
    let refused = 0;
    for (let turn = 0; turn < 1500; turn++) {
      const blob = mutated(gzipVariants[sources[turn % sources.length]!]!(some), random);
      const options = { pieceBytes: 1 + random(5000) };
      const [ours, other] = await Promise.all([
        pass("gzip", blob, options).catch((error: Error) => error),
        scan("gzip", blob, options).catch((error: Error) => error),
      ]);
      if (ours instanceof Error || other instanceof Error) {
        expect([ours, other]).toMatchObject([{ code: "LAYER_CORRUPT" }, { code: "LAYER_CORRUPT" }]);
        refused++;
      } else {
        expect(ours.stream.equals(other.stream)).toBe(true);
        expect(ours.trailingBytes).toBe(other.trailingBytes);
      }
    }
    expect(refused).toBeGreaterThan(500);
  });

  it("takes skippable frames of zstd", async () => {
    const blob = Buffer.concat([skippableFrame(Buffer.alloc(99)), zstd(data)]);
    expect((await pass("zstd", blob)).stream.equals(data)).toBe(true);
  });
});
