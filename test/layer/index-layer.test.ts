import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { deflateRawSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { type Digest, digestOf } from "../../src/image/digest.js";
import type { Descriptor } from "../../src/image/manifest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { type IndexLayerOptions, indexLayer } from "../../src/layer/index-layer.js";
import { classifyLayer, mediaTypeWarning } from "../../src/layer/layer-kind.js";
import { SPAN_RECORD_BYTES } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import { buildTar, tarEnd, tarMember } from "../support/tar-builder.js";
import { contentOf, entryAt, readTar } from "./tar-reading.js";

const native = loadNative();
const settings = resolveSettings({}, {});

/** A blob as a source hands it out, that knows how its iteration ended. */
class Blob {
  pulled = 0;
  closed = false;
  constructor(
    readonly bytes: Buffer,
    readonly pieceBytes = 16 * 1024,
    readonly failure?: Error,
  ) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (let at = 0; at < this.bytes.length; at += this.pieceBytes) {
        this.pulled = at;
        yield this.bytes.subarray(at, at + this.pieceBytes);
      }
      if (this.failure) throw this.failure;
    } finally {
      this.closed = true;
    }
  }
}

function index(blob: Buffer | Blob, options: Partial<IndexLayerOptions> = {}) {
  const stream = Buffer.isBuffer(blob) ? new Blob(blob) : blob;
  return indexLayer(stream, {
    digest: digestOf(stream.bytes),
    size: stream.bytes.length,
    spanBytes: 64 * 1024,
    settings,
    native,
    where: "layer 3 of 7, sha256:abcd",
    ...options,
  });
}

const failure = (code: string, message: RegExp) => ({ code, message: expect.stringMatching(message) });

const tar = buildTar([
  { path: "bin/", type: "directory" },
  { path: "bin/random", content: randomBytes(700_000), mode: 0o755 },
  { path: "text", content: Buffer.alloc(900_000, "some text that repeats, ") },
  { path: "link", link: "text" },
]);
const zstd = (bytes: Buffer) => execFileSync("zstd", ["-q", "-c"], { input: bytes, maxBuffer: 1 << 28 });

describe("what one pass finds out", () => {
  const forms: Array<[string, "gzip" | "zstd" | "none", Buffer]> = [
    ["gzip", "gzip", gzipSync(tar)],
    [
      "gzip of two members",
      "gzip",
      Buffer.concat([gzipSync(tar.subarray(0, 777)), gzipSync(tar.subarray(777))]),
    ],
    ["gzip with zeros behind it", "gzip", Buffer.concat([gzipSync(tar), Buffer.alloc(1000)])],
    ["zstd", "zstd", zstd(tar)],
    [
      "zstd behind a skippable frame",
      "zstd",
      Buffer.concat([Buffer.from("502a4d1803000000616263", "hex"), zstd(tar)]),
    ],
    ["plain tar", "none", tar],
  ];

  test.each(forms)("%s: digest, diffId, sizes, spans and entries", async (_, compression, blob) => {
    for (const pieceBytes of [blob.length, 16 * 1024, 511]) {
      const stream = new Blob(blob, pieceBytes);
      let progressed = 0;
      const found = await index(stream, {
        diffId: digestOf(tar),
        progress: { advance: (bytes) => (progressed += bytes), done() {} },
      });
      expect(found).toMatchObject({
        digest: digestOf(blob),
        diffId: digestOf(tar),
        compression,
        compressedBytes: blob.length,
        uncompressedBytes: tar.length,
      });
      expect(found.entries).toEqual(readTar(tar).entries);
      expect(found.spanRecords.length % SPAN_RECORD_BYTES).toBe(0);
      let end = 0;
      const records = Buffer.from(found.spanRecords);
      for (let at = 0; at < records.length; at += SPAN_RECORD_BYTES) {
        const length = records.readUInt32LE(at + 8);
        expect(Number(records.readBigUInt64LE(at))).toBe(end);
        const sha256 = createHash("sha256")
          .update(tar.subarray(end, end + length))
          .digest();
        expect(records.subarray(at + 48, at + 80).equals(sha256)).toBe(true);
        end += length;
      }
      expect(end).toBe(tar.length);
      const content = contentOf(entryAt({ entries: [...found.entries], warnings: [] }, "text"), tar);
      expect(content.equals(Buffer.alloc(900_000, "some text that repeats, "))).toBe(true);
      expect(progressed).toBe(blob.length);
      expect(stream.closed).toBe(true);
    }
  });

  test("two passes over the same blob find the same, however it arrives", async () => {
    const blob = gzipSync(tar);
    expect(await index(new Blob(blob, 1000))).toEqual(await index(new Blob(blob, 77_777)));
  });

  test("bytes behind the end of the gzip data are hashed, ignored and counted", async () => {
    const blob = Buffer.concat([gzipSync(tar), Buffer.from("trailing garbage")]);
    const found = await index(blob, { diffId: digestOf(tar) });
    expect(found.trailingBytes).toBe(16);
    expect(found.warnings).toEqual([]);
  });

  test("what stands behind the end of the tar belongs to the diffId", async () => {
    const longer = Buffer.concat([tar, Buffer.alloc(3000), Buffer.from("x")]);
    const found = await index(gzipSync(longer), { diffId: digestOf(longer) });
    expect(found.uncompressedBytes).toBe(longer.length);
    expect(found.warnings).toEqual([expect.stringMatching(/bytes behind the end of the tar/)]);
  });

  test("empty layers: no bytes, zeros, a gzip of nothing", async () => {
    for (const blob of [Buffer.alloc(0), tarEnd, gzipSync(Buffer.alloc(0)), gzipSync(tarEnd)]) {
      expect((await index(blob)).entries).toEqual([]);
    }
  });

  test("sha512 digests and diffIds are checked with sha512", async () => {
    const blob = gzipSync(tar);
    const ids = { digest: digestOf(blob, "sha512"), diffId: digestOf(tar, "sha512") };
    expect(await index(blob, ids)).toMatchObject(ids);
    await expect(index(blob, { ...ids, digest: digestOf(tar, "sha512") })).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
    });
    await expect(index(blob, { ...ids, diffId: digestOf(blob, "sha512") })).rejects.toMatchObject({
      code: "DIFF_ID_MISMATCH",
    });
  });
});

describe("what is refused", () => {
  async function refused(blob: Buffer | Blob, options: Partial<IndexLayerOptions>, expected: object) {
    const stream = Buffer.isBuffer(blob) ? new Blob(blob) : blob;
    await expect(index(stream, options)).rejects.toMatchObject(expected);
    expect(stream.closed).toBe(true);
  }

  test("a blob that does not have its digest", async () => {
    const blob = gzipSync(tar);
    const other = digestOf(Buffer.from("other"));
    await refused(blob, { digest: other }, failure("DIGEST_MISMATCH", /^layer 3 of 7, .*not sha256:/));
  });

  test("a tar that does not have its diffId", async () => {
    await refused(
      gzipSync(tar),
      { diffId: digestOf(gzipSync(tar)) },
      failure("DIFF_ID_MISMATCH", /layer 3 of 7/),
    );
  });

  test("a blob that is shorter or longer than its descriptor says, with the numbers", async () => {
    const blob = gzipSync(tar);
    for (const cut of [0, 1, 100, 5000, blob.length - 1]) {
      await refused(
        blob.subarray(0, cut),
        { size: blob.length },
        failure("LAYER_CORRUPT", new RegExp(`ends after ${cut} of ${blob.length} bytes`)),
      );
    }
    await refused(blob, { size: blob.length - 1 }, failure("LAYER_CORRUPT", /goes on behind/));
  });

  test.each([
    ["gzip", gzipSync(tar)],
    ["zstd", zstd(tar)],
    ["tar", tar],
  ])("a %s that was cut before it was pushed", async (_, blob) => {
    for (const share of [0.1, 0.5, 0.99]) {
      const cut = blob.subarray(0, Math.floor(blob.length * share));
      await refused(cut, {}, failure("LAYER_CORRUPT", /layer 3 of 7/));
    }
  });

  test("a gzip with a flipped bit, in the data as in the trailer", async () => {
    const blob = gzipSync(tar);
    for (const at of [5000, blob.length - 6, blob.length - 2]) {
      const flipped = Buffer.from(blob);
      flipped[at]! ^= 4;
      await refused(flipped, {}, failure("LAYER_CORRUPT", /layer 3 of 7.*gzip/));
    }
  });

  test("proper gzip of something that is no tar", async () => {
    await refused(gzipSync(randomBytes(5000)), {}, failure("LAYER_CORRUPT", /no tar header/));
    await refused(gzipSync("short"), {}, failure("LAYER_CORRUPT", /ends within a header/));
  });

  test.each([
    ["xz", "fd377a585a0000"],
    ["bzip2", "425a6839314159"],
    ["lz4", "04224d18644070"],
    ["7z", "377abcaf271c00"],
    ["zip", "504b0304140000"],
    ["something that starts with 7b2278223a317d00", "7b2278223a317d"],
    ["something that starts with 1f8b070000000000", "1f8b07"],
  ])("%s, by its name", async (name, magic) => {
    const blob = Buffer.concat([Buffer.from(magic, "hex"), Buffer.alloc(2000)]);
    await refused(blob, {}, failure("LAYER_UNSUPPORTED", new RegExp(`it is ${name}, not a tar`)));
  });

  test("ciphertext and a few stray bytes", async () => {
    const noise = Buffer.alloc(3000, "ab0f91c7e1", "hex");
    await refused(noise, {}, failure("LAYER_UNSUPPORTED", /starts with ab0f91c7e1/));
    await refused(Buffer.from([0x1f]), {}, failure("LAYER_UNSUPPORTED", /starts with 1f/));
  });

  test("a plain tar is a tar, even where its first name looks like another format", async () => {
    for (const path of ["BZh91AY", "PK\x03\x04"]) {
      expect((await index(buildTar([{ path }]))).compression).toBe("none");
    }
  });

  test("more uncompressed bytes or members than the settings allow, naming the setting, without reading on", async () => {
    const members = Array.from({ length: 6000 }, (_, i) =>
      tarMember({ path: `f${i}`, content: randomBytes(900) }),
    );
    const large = Buffer.concat([...members, tarEnd]);
    const blob = gzipSync(large);
    const bytes = new Blob(blob, 4096);
    await refused(
      bytes,
      { settings: { ...settings, layerUncompressedBytesMax: 100_000 } },
      failure("LIMIT_EXCEEDED", /100000 uncompressed bytes; raise layerUncompressedBytesMax \(SKIM_LAYER/),
    );
    const entries = new Blob(blob, 4096);
    await refused(
      entries,
      { settings: { ...settings, layerEntriesMax: 100 } },
      failure("LIMIT_EXCEEDED", /more than 100 members; raise layerEntriesMax \(SKIM_LAYER_ENTRIES_MAX\)/),
    );
    // At most two read-aheads of 1 MiB; the blob has 5.
    for (const stream of [bytes, entries]) expect(stream.pulled).toBeLessThan(3_000_000);
    const enough = { ...settings, layerEntriesMax: 6000, layerUncompressedBytesMax: large.length };
    expect((await index(blob, { settings: enough })).entries).toHaveLength(6000);
  });

  test("a bomb: 2 GB of zeros in 2 MB, known long before its end", async () => {
    // One block of zeros again and again: the header of a gzip, then the same deflate blocks, flushed to a byte boundary.
    const zeros = Buffer.alloc(16 << 20);
    const chunk = deflateRawSync(zeros, { finishFlush: 2 });
    const head = gzipSync("").subarray(0, 10);
    const file = tarMember({ path: "zeros", size: 2 ** 31 - 2 ** 20 });
    const bomb = Buffer.concat([
      head,
      deflateRawSync(file, { finishFlush: 2 }),
      ...Array<Buffer>(128).fill(chunk),
    ]);
    const started = new Blob(bomb, 64 * 1024);
    await refused(
      started,
      { settings: { ...settings, layerRatioMax: 900 } },
      failure("LIMIT_EXCEEDED", /decompression bomb.*raise layerRatioMax \(SKIM_LAYER_RATIO_MAX\)/),
    );
    await refused(
      new Blob(bomb),
      { settings: { ...settings, layerUncompressedBytesMax: 100 << 20 } },
      failure("LIMIT_EXCEEDED", /layerUncompressedBytesMax/),
    );
  });

  test("an error of the source comes through as it is", async () => {
    const broken = new Error("registry gone");
    const blob = gzipSync(tar);
    await expect(index(new Blob(blob, 4096, broken), { size: blob.length + 1 })).rejects.toBe(broken);
  });
});

describe("cancelling", () => {
  test("ends the pass and the iteration", async () => {
    const blob = new Blob(gzipSync(tar), 4096);
    const abort = new AbortController();
    const progress = { advance: () => abort.abort(), done() {} };
    await expect(index(blob, { signal: abort.signal, progress })).rejects.toMatchObject({
      code: "CANCELLED",
    });
    expect(blob.closed).toBe(true);
  });

  test("before the start fetches nothing", async () => {
    const blob = new Blob(gzipSync(tar));
    const cancelled = index(blob, { signal: AbortSignal.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
    expect(blob.closed).toBe(false);
  });
});

describe("descriptors", () => {
  const descriptor = (mediaType: string, urls?: string[]): Descriptor => ({
    mediaType,
    digest: `sha256:${"0".repeat(64)}` as Digest,
    size: 1,
    ...(urls ? { urls } : {}),
  });

  test("foreign and encrypted layers are refused with what to do", () => {
    const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    expect(() => classifyLayer(descriptor(foreign, ["::", "https://mcr.example/x"]), "layer 1")).toThrow(
      expect.objectContaining(
        failure("LAYER_UNSUPPORTED", /^layer 1: a foreign layer .*mcr\.example.*skopeo/),
      ),
    );
    const nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    expect(() => classifyLayer(descriptor(nondistributable), "layer 1")).toThrow(/foreign/);
    expect(() => classifyLayer(descriptor(`${mediaTypes.ociLayerGzip}+encrypted`), "layer 1")).toThrow(
      expect.objectContaining(failure("LAYER_UNSUPPORTED", /encrypted.*decrypt/)),
    );
  });

  test("known media types give no warning, others do", () => {
    for (const type of [mediaTypes.ociLayerTar, mediaTypes.ociLayerZstd, mediaTypes.dockerLayerGzip]) {
      expect(classifyLayer(descriptor(type), "layer 1")).toEqual([]);
    }
    expect(classifyLayer(descriptor("application/vnd.in-toto+json"), "layer 1")).toEqual([
      'its media type "application/vnd.in-toto+json" is none of a layer',
    ]);
  });

  test("a media type that disagrees with the bytes is a warning", () => {
    expect(mediaTypeWarning(mediaTypes.ociLayerGzip, "gzip")).toBeUndefined();
    expect(mediaTypeWarning(mediaTypes.dockerLayerGzip, "gzip")).toBeUndefined();
    expect(mediaTypeWarning(mediaTypes.dockerLayerTar, "none")).toBeUndefined();
    expect(mediaTypeWarning(mediaTypes.ociLayerZstd, "zstd")).toBeUndefined();
    expect(mediaTypeWarning("application/x-unknown", "gzip")).toBeUndefined();
    expect(mediaTypeWarning(mediaTypes.dockerLayerGzip, "none")).toMatch(
      /says gzip, its bytes are a plain tar/,
    );
    expect(mediaTypeWarning(mediaTypes.ociLayerGzip, "zstd")).toMatch(/says gzip, its bytes are zstd/);
    expect(mediaTypeWarning(mediaTypes.ociLayerTar, "gzip")).toMatch(/says a plain tar, its bytes are gzip/);
  });
});
