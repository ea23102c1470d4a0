import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { SkimError } from "../../src/base/errors.js";
import { resolveSettings } from "../../src/base/settings.js";
import { type Digest, digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { LayerIndexer } from "../../src/layer/layer-indexer.js";
import type { LayerToRead } from "../../src/layer/layer-passes.js";
import { LayerStore } from "../../src/layer/layer-store.js";
import { loadNative } from "../../src/native/load.js";
import type { BlobId, ReadBlobOptions } from "../../src/registry/image-source.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

interface TestBlob {
  readonly bytes: Buffer;
  /** Awaited before the first byte. */
  readonly before?: (signal: AbortSignal | undefined) => Promise<unknown>;
}

/** A source of blobs in memory that counts what is asked of it. */
class TestSource {
  readonly blobs = new Map<Digest, TestBlob>();
  readonly reads: Digest[] = [];
  open = 0;
  openMax = 0;

  add(bytes: Buffer, before?: TestBlob["before"]): LayerToRead {
    const digest = digestOf(bytes);
    this.blobs.set(digest, { bytes, ...(before ? { before } : {}) });
    return { descriptor: { mediaType: mediaTypes.ociLayerGzip, digest, size: bytes.length } };
  }

  async *readBlob(blob: BlobId, options: ReadBlobOptions = {}): AsyncIterable<Uint8Array> {
    const { bytes, before } = this.blobs.get(blob.digest)!;
    this.reads.push(blob.digest);
    this.openMax = Math.max(this.openMax, ++this.open);
    try {
      await before?.(options.signal);
      for (let at = 0; at < bytes.length; at += 4096) {
        options.signal?.throwIfAborted();
        await new Promise(setImmediate);
        yield bytes.subarray(at, at + 4096);
      }
    } finally {
      this.open--;
    }
  }
}

const untilAborted = async (signal: AbortSignal | undefined) => {
  if (!signal!.aborted) await once(signal!, "abort");
  throw new SkimError("CANCELLED", "the source was told to stop");
};
const layerBlob = (name: string) => gzipSync(buildTar([{ path: name, content: name.repeat(3000) }]));
const settings = resolveSettings({}, {});
const spanBytes = 65536;

async function makeIndexer(dir?: string) {
  const cacheDir = dir ?? (await makeTempDir("indexer"));
  return {
    cacheDir,
    indexer: new LayerIndexer({ store: new LayerStore(cacheDir), native: loadNative(), settings }),
  };
}

test("layers come in their order, are indexed side by side, and no more than three at once", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  // The first three are open until all of them are.
  const untilThree = async () => {
    while (source.openMax < 3) await new Promise(setImmediate);
  };
  const layers = Array.from({ length: 40 }, (_, i) =>
    source.add(layerBlob(`file${i}`), i < 3 ? untilThree : undefined),
  );
  const warned: string[] = [];
  const onWarning = (warning: Error) => warned.push(warning.message);
  process.on("warning", onWarning);
  const indexes = await indexer.index(source, layers, { spanBytes, signal: new AbortController().signal });
  await new Promise(setImmediate);
  process.off("warning", onWarning);
  expect(indexes.map((index) => index.entries[0]!.path)).toEqual(layers.map((_, i) => `file${i}`));
  expect(source.openMax).toBe(3);
  expect(source.open).toBe(0);
  // Forty listeners on one signal are no leak, and nobody must say so on the user's terminal.
  expect(warned).toEqual([]);
});

test("a layer that is known is not read again, by this indexer or another on the same directory", async () => {
  const { indexer, cacheDir } = await makeIndexer();
  const source = new TestSource();
  const layers = [source.add(layerBlob("a")), source.add(layerBlob("b"))];
  const outcomes: Array<string | undefined> = [];
  const progress = {
    start: () => ({ advance() {}, done: (outcome?: string) => void outcomes.push(outcome) }),
  };
  const first = await indexer.index(source, layers, { spanBytes, progress });
  expect(await indexer.index(source, layers, { spanBytes, progress })).toEqual(first);
  await indexer.settled();
  const other = await makeIndexer(cacheDir);
  expect(await other.indexer.index(source, layers, { spanBytes, progress })).toEqual(first);
  expect(source.reads).toHaveLength(2);
  expect(outcomes).toEqual([undefined, undefined, ...Array(4).fill("already indexed")]);
  await indexer.index(source, layers, { spanBytes: spanBytes * 2 });
  expect(source.reads).toHaveLength(4);
});

test("the same layer twice in an image, and wanted by two calls at once, is read once", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  const layer = source.add(layerBlob("shared"));
  const calls = await Promise.all([
    indexer.index(source, [layer, layer], { spanBytes }),
    indexer.index(source, [layer], { spanBytes }),
  ]);
  expect(source.reads).toHaveLength(1);
  expect(calls.flat().map((index) => index.entries[0]!.path)).toEqual(["shared", "shared", "shared"]);
});

test("a call that is cancelled does not cancel the one that joined it", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const layer = source.add(layerBlob("joined"), () => gate);
  const abort = new AbortController();
  const first = indexer.index(source, [layer], { spanBytes, signal: abort.signal });
  const second = indexer.index(source, [layer], { spanBytes });
  const refused = expect(first).rejects.toMatchObject({ code: "CANCELLED" });
  await expect.poll(() => source.open).toBe(1);
  abort.abort();
  await refused;
  go();
  expect((await second)[0]!.entries[0]!.path).toBe("joined");
  expect(source.reads).toHaveLength(1);
});

test("a call that joined another's failure tries for itself", async () => {
  const { indexer } = await makeIndexer();
  const [denied, allowed] = [new TestSource(), new TestSource()];
  const blob = layerBlob("x");
  const layer = allowed.add(blob);
  denied.add(blob, async () => {
    await new Promise(setImmediate);
    throw new SkimError("AUTH_FAILED", "no");
  });
  const first = indexer.index(denied, [layer], { spanBytes });
  const second = indexer.index(allowed, [layer], { spanBytes });
  await expect(first).rejects.toMatchObject({ code: "AUTH_FAILED" });
  expect((await second)[0]!.entries[0]!.path).toBe("x");
});

test("the first layer that fails ends the others, is the one reported, and nothing goes on behind it", async () => {
  const { indexer, cacheDir } = await makeIndexer();
  const source = new TestSource();
  const bad = source.add(gzipSync(Buffer.alloc(2000, "no tar")), () => new Promise((r) => setTimeout(r, 20)));
  const layers = [
    source.add(layerBlob("slow"), untilAborted),
    bad,
    ...Array.from({ length: 5 }, (_, i) => source.add(layerBlob(`later${i}`), untilAborted)),
  ];
  await expect(indexer.index(source, layers, { spanBytes })).rejects.toMatchObject({
    code: "LAYER_CORRUPT",
    message: expect.stringMatching(/^layer 2 of 7, sha256:[0-9a-f]{12}\.\.\.: .*no tar header/),
  });
  expect(source.open).toBe(0);
  // Those that waited for a place never began.
  expect(source.reads).toHaveLength(3);
  expect(await readdir(cacheDir)).toEqual([]);
});

test("cancelling ends all reads and is reported as such", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  const layers = Array.from({ length: 5 }, (_, i) => source.add(layerBlob(`f${i}`), untilAborted));
  const abort = new AbortController();
  const call = expect(
    indexer.index(source, layers, { spanBytes, signal: abort.signal }),
  ).rejects.toMatchObject({
    code: "CANCELLED",
  });
  await expect.poll(() => source.open).toBe(3);
  abort.abort();
  await call;
  expect(source.open).toBe(0);
  await expect(indexer.index(source, layers, { spanBytes, signal: abort.signal })).rejects.toMatchObject({
    code: "CANCELLED",
  });
});

test("a manifest or config that contradicts the stored index is found out", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  const layer = source.add(layerBlob("f"));
  await indexer.index(source, [layer], { spanBytes });
  const wrong = digestOf(Buffer.from("wrong"));
  await expect(indexer.index(source, [{ ...layer, diffId: wrong }], { spanBytes })).rejects.toMatchObject({
    code: "DIFF_ID_MISMATCH",
  });
  const longer = { ...layer.descriptor, size: layer.descriptor.size + 1 };
  await expect(indexer.index(source, [{ descriptor: longer }], { spanBytes })).rejects.toMatchObject({
    code: "LAYER_CORRUPT",
  });
});

test("a foreign layer is refused before anything is fetched", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  const good = source.add(layerBlob("f"));
  const mediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
  const foreign = { descriptor: { ...good.descriptor, mediaType } };
  await expect(indexer.index(source, [good, foreign], { spanBytes })).rejects.toMatchObject({
    code: "LAYER_UNSUPPORTED",
    message: expect.stringMatching(/^layer 2 of 2, /),
  });
  expect(source.reads).toEqual([]);
});

test("warnings say which layer of this image they are about, also where the index is another image's", async () => {
  const { indexer } = await makeIndexer();
  const source = new TestSource();
  const odd = source.add(gzipSync(buildTar([{ path: "f", typeflag: "Q" }])));
  const lying = { descriptor: { ...odd.descriptor, mediaType: mediaTypes.ociLayerZstd } };
  const digest = odd.descriptor.digest.slice(0, 19);
  const [first] = await indexer.index(source, [odd], { spanBytes });
  expect(first!.warnings).toEqual([
    `layer 1 of 1, ${digest}...: "f" is of the unknown type "Q" and taken for a file`,
  ]);
  const indexes = await indexer.index(source, [source.add(layerBlob("x")), lying], { spanBytes });
  expect(indexes[1]!.warnings).toEqual([
    expect.stringMatching(/^layer 2 of 2, .*says zstd, its bytes are gzip/),
    expect.stringMatching(/^layer 2 of 2, .*unknown type/),
  ]);
});
