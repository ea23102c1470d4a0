/**
 * What nobody who indexes or unpacks gzip layers can leave out: each blob named on the command line is read, hashed, inflated by zlib, and hashed again. Blobs side by
 * side, each in a thread of its own, beside which zlib runs in one of libuv's.
 *
 * With `--pieces` every piece of what comes out, of at most a MiB, is hashed once more, for itself: what nobody can leave out who fetches pieces of a layer later on and
 * verifies them.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { createGunzip } from "node:zlib";

const pieceBytes = 2 ** 20;

interface Work {
  readonly file: string;
  readonly hashPieces: boolean;
}

if (isMainThread) {
  const [first, ...others] = process.argv.slice(2);
  const hashPieces = first === "--pieces";
  const files = hashPieces ? others : [first, ...others];
  for (const file of files) new Worker(new URL(import.meta.url), { workerData: { file, hashPieces } });
} else {
  const { file, hashPieces } = workerData as Work;
  const digest = createHash("sha256");
  const diffId = createHash("sha256");
  const blob = createReadStream(file, { highWaterMark: pieceBytes });
  const inflated = createGunzip({ chunkSize: pieceBytes });
  blob.on("data", (piece) => digest.update(piece));
  await pipeline(blob, inflated, async (pieces: AsyncIterable<Buffer>) => {
    // Of a MiB, or less where the input of one call ended.
    for await (const piece of pieces) {
      diffId.update(piece);
      if (hashPieces) createHash("sha256").update(piece).digest();
    }
  });
  digest.digest("hex");
  diffId.digest("hex");
}
