/**
 * What nobody who indexes or unpacks gzip layers can leave out: each blob named on the command line is read, hashed, inflated by zlib, and hashed again. Blobs side by
 * side, each in a thread of its own.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { createGunzip } from "node:zlib";

const pieceBytes = 2 ** 20;

if (isMainThread) {
  for (const blob of process.argv.slice(2)) new Worker(new URL(import.meta.url), { workerData: blob });
} else {
  const digest = createHash("sha256");
  const diffId = createHash("sha256");
  const blob = createReadStream(workerData as string, { highWaterMark: pieceBytes });
  const inflated = createGunzip({ chunkSize: pieceBytes });
  blob.on("data", (piece) => digest.update(piece));
  await pipeline(blob, inflated, async (pieces: AsyncIterable<Buffer>) => {
    for await (const piece of pieces) diffId.update(piece);
  });
  digest.digest("hex");
  diffId.digest("hex");
}
