import { createHash, randomBytes } from "node:crypto";
import type { CachedLayer } from "../../src/cache/cached-layer.js";
import { digestOf } from "../../src/image/digest.js";

/** A layer of random bytes, cut into spans of the given lengths. */
export function randomLayer(lengths: readonly number[]): { layer: CachedLayer; spans: Buffer[] } {
  const spans = lengths.map((length) => randomBytes(length));
  const truth = Buffer.concat(spans);
  let uncompressedOffset = 0;
  const records = spans.map((bytes) => {
    const record = {
      uncompressedOffset,
      uncompressedLength: bytes.length,
      sha256: createHash("sha256").update(bytes).digest(),
    };
    uncompressedOffset += bytes.length;
    return record;
  });
  const layer = {
    digest: digestOf(truth),
    uncompressedBytes: truth.length,
    spanCount: spans.length,
    span: (index: number) => records[index]!,
  };
  return { layer, spans };
}
