import { expect, test } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { SpanCache } from "../../src/cache/span-cache.js";
import { openContent } from "../../src/content/content.js";
import { parseReference } from "../../src/image/reference.js";
import { loadNative } from "../../src/native/load.js";
import { startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { openImageSource } from "../../src/registry/open-image-source.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import { readFile } from "./open-content.js";
import {
  gzipBlob,
  plainBlob,
  randomInteger,
  sampleBytes,
  scanLayers,
  seed,
  wholeLayer,
  zstdBlob,
} from "./scanned-layers.js";

test("from a registry over HTTP: ranges are asked for, a stopped registry fails reads, a restarted one serves them", async () => {
  const blobs = [
    gzipBlob(sampleBytes(1 << 20)),
    plainBlob(sampleBytes(500_000)),
    zstdBlob(sampleBytes(500_000)),
  ];
  const archive = await scanLayers(blobs);
  const layout = await makeTempDir("content");
  await writeTestImage(
    layout,
    blobs.map(({ truth, blob }) => ({ tar: truth, blob })),
  );
  let registry = await startEmbeddedRegistry({ layout });
  const settings = resolveSettings({ readDeadlineMs: 5000, memoryCacheBytes: 0 }, {});
  const source = openImageSource(parseReference(`${registry.host}/app`), { settings });
  const cache = SpanCache.open(await makeTempDir("content"));
  const content = openContent({ archive, source, cache, native: loadNative(), settings });
  try {
    const readRandom = async () => {
      const layer = randomInteger(archive.layers.length);
      const truth = archive.truths[layer]!;
      const offset = randomInteger(truth.length);
      const length = randomInteger(100_000);
      const bytes = await readFile(content, wholeLayer(archive, layer), offset, length);
      expect(bytes.equals(truth.subarray(offset, offset + length)), `${offset}+${length}, seed ${seed}`).toBe(
        true,
      );
    };
    await Promise.all(Array.from({ length: 5 }, readRandom));
    await readFile(content, wholeLayer(archive, 1), 0, 1000);
    const { requests, rangeRequests, bytesSent } = registry.counters;
    expect(rangeRequests).toBeGreaterThan(0);
    expect(bytesSent).toBeLessThan(blobs.reduce((sum, { blob }) => sum + blob.length, 0));
    expect(content.counters.get("fetch_requests_total")).toBeLessThanOrEqual(requests);

    await registry.close();
    const unread = wholeLayer(archive, 0);
    const failing = Array.from({ length: 16 }, (_, i) => readFile(content, unread, i * 65_536, 65_536));
    const outcomes = await Promise.allSettled(failing);
    const codes = outcomes.flatMap((read) => (read.status === "rejected" ? [read.reason.code] : []));
    expect(codes.length).toBeGreaterThan(0);
    for (const code of codes) expect(["REGISTRY_UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(code);
    // What is cached needs no registry.
    await readFile(content, wholeLayer(archive, 1), 0, 1000);

    registry = await startEmbeddedRegistry({ layout, port: Number(new URL(registry.url).port) });
    for (const layer of [0, 1, 2]) {
      const truth = archive.truths[layer]!;
      expect((await readFile(content, wholeLayer(archive, layer), 0, truth.length)).equals(truth)).toBe(true);
    }
  } finally {
    await content.close();
    await source.close();
    await registry.close();
  }
});
