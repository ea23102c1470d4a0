// Writes and reads the spans of a layer in a cache directory that other processes use at the same time. Arguments: the cache directory,
// a file with the layer's bytes, the length of its spans, the number of rounds, or a file whose coming ends it after 300. Prints "working" once it has begun, then {loaded, wrong, failed} as JSON.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { SpanCache } from "../../dist/cache/span-cache.js";

const [cacheDir, truthFile, spanBytes, end] = [
  process.argv[2],
  process.argv[3],
  Number(process.argv[4]),
  process.argv[5],
];
const isOver = (round) => (path.isAbsolute(end) ? round >= 300 && existsSync(end) : round >= Number(end));
const truth = readFileSync(truthFile);
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const spans = [];
for (let at = 0; at < truth.length; at += spanBytes) spans.push(truth.subarray(at, at + spanBytes));
const cache = SpanCache.open(cacheDir);
const layer = cache.layer({
  digest: `sha256:${sha256(truth).toString("hex")}`,
  uncompressedBytes: truth.length,
  spanCount: spans.length,
  span: (index) => ({
    uncompressedOffset: index * spanBytes,
    uncompressedLength: spans[index].length,
    sha256: sha256(spans[index]),
  }),
});
const outcome = { loaded: 0, wrong: 0, failed: 0 };
process.stdout.write("working\n");
for (let round = 0; !isOver(round); round++) {
  // Files that are evicted from are let go of as they are in a process that lives for longer.
  if (round % 5 === 0) cache.releaseStale();
  const span = Math.floor(Math.random() * spans.length);
  const into = Buffer.alloc(spans[span].length);
  if (!layer.readVerified(span, 0, into)) {
    const loaded = await layer.load(span);
    if (typeof loaded === "string") {
      if (!(await layer.write(span, spans[span]))) outcome.failed++;
      continue;
    }
    into.set(loaded);
  }
  outcome.loaded++;
  if (!into.equals(spans[span])) outcome.wrong++;
}
await cache.close();
process.stdout.write(`${JSON.stringify(outcome)}\n`);
