/**
 * Reads at every edge, from layers compressed in every way that tools have: one image with a layer for each, mounted by each engine and
 * compared with the bytes that went in. Spans are as short as they are useful, so that files have many; and what was fetched for it is counted.
 */
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Archive } from "../../src/archive/archive.js";
import { openArchive } from "../../src/archive/archive-reader.js";
import { byteStringFromText } from "../../src/base/byte-string.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { gzipVariants, layerBytes, randomBytes, zstd, zstdFrames } from "../native/blobs.js";
import { engines } from "../support/engines.js";
import { python } from "../support/fuse-mount.js";
import { type TestLayer, writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { tarEnd, tarMember } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const span = 65536;

/** By the names of the files in the directory of each layer, which is more than four spans long, so that spans without a restart point come about. */
const fileBytes = (variant: string) => ({
  empty: 0,
  byte: 1,
  "less than a span": span - 1,
  "a span": span,
  "more than a span": span + 1,
  // The longest blocks of pigz take a longer layer to have a second one.
  many: (variant.includes("1 MiB") ? 16 : 5) * span + 12_345,
});

/** A way to store a tar; `members` are its entries, whole, and its end. */
type Store = (tar: Buffer, members: readonly Buffer[]) => Omit<TestLayer, "tar">;

const variants: Readonly<Record<string, Store>> = {
  ...Object.fromEntries(
    Object.entries(gzipVariants).map(([name, make]) => [name, (tar: Buffer) => ({ blob: make(tar) })]),
  ),
  // As eStargz has it.
  "a gzip member for each entry": (_, members) => ({
    blob: Buffer.concat(members.map((member) => gzipSync(member))),
  }),
  "zstd, one frame": (tar) => ({ blob: zstd(tar, "-3"), mediaType: mediaTypes.ociLayerZstd }),
  "zstd, several frames": (tar) => ({ blob: zstdFrames(tar, 100_000), mediaType: mediaTypes.ociLayerZstd }),
  "a plain tar": (tar) => ({ blob: tar, mediaType: mediaTypes.ociLayerTar }),
};

interface TestFile {
  /** Below the root of the image. */
  readonly path: string;
  readonly content: Buffer;
}

const files: TestFile[] = [];
let dir = "";
let image = "";
/** Of all files, by path. */
let digests: Record<string, string> = {};
/** Paths of all files, as JSON. */
let namesFile = "";
let archive: Archive;

beforeAll(async () => {
  dir = await makeTempDir("matrix");
  const material = Buffer.concat([layerBytes(), randomBytes(100_000, 3), layerBytes()]);
  const layers = Object.entries(variants).map(([name, store], i) => {
    const below = name.replaceAll("/", " ");
    const members = [tarMember({ path: `${below}/` })];
    for (const [fileName, length] of Object.entries(fileBytes(name))) {
      // Other bytes for each file, so that none can stand for another.
      const start = (i * 25_013 + length) % (material.length - length);
      const content = material.subarray(start, start + length);
      members.push(tarMember({ path: `${below}/${fileName}`, content }));
      files.push({ path: `${below}/${fileName}`, content });
    }
    members.push(tarEnd);
    const tar = Buffer.concat(members);
    return { tar, ...store(tar, members) };
  });
  await writeTestImage(path.join(dir, "layout"), layers);
  digests = Object.fromEntries(files.map((file) => [file.path, sha256(file.content)]));
  namesFile = path.join(dir, "names.json");
  await writeFile(namesFile, JSON.stringify(files.map((file) => file.path)));
  image = path.join(dir, "image.skim");
  const indexer = await makeSkimHost();
  await indexer.ok(["index", `oci:${path.join(dir, "layout")}`, "-o", image, "--span-size", `${span}`]);
  archive = await openArchive(image);
});

afterAll(() => archive?.close());

function extentsOf(file: TestFile) {
  const find = (parent: number, name: string) => archive.lookup(parent, byteStringFromText(name));
  return archive.extents(file.path.split("/").reduce(find, 1));
}

/** The spans that the bytes of a file are in, by index, and where in the file they begin (before its start: below 0). */
function spansOf(file: TestFile): Array<{ index: number; fileOffset: number }> {
  return extentsOf(file).flatMap(({ fileOffset, layer, layerOffset, length }) => {
    const first = archive.spanIndexAt(layer, layerOffset);
    const count = archive.spanIndexAt(layer, layerOffset + length - 1) + 1 - first;
    return Array.from({ length: count }, (_, i) => ({
      index: first + i,
      fileOffset: fileOffset + archive.span(first + i).uncompressedOffset - layerOffset,
    }));
  });
}

/**
 * What it takes to fetch all spans with bytes of files once. `bytes`: at least those of the blobs that they are decoded from, each once; at most a
 * request for each restart point, of which two can share a byte (a deflate block begins anywhere in it), with all that is between them (trailers
 * of members and frames). `spans`: those that are a restart point for themselves alone are waited for; of others that follow one some have
 * come already, without being asked for.
 */
function costOfAll(): { bytes: { least: number; most: number }; spans: { least: number; most: number } } {
  const wanted = new Set(files.flatMap((file) => spansOf(file).map(({ index }) => index)));
  const cost = { bytes: { least: 0, most: 0 }, spans: { least: 0, most: wanted.size } };
  for (const { spanFirst, spanCount, compressedBytes } of archive.layers) {
    const layerEnd = spanFirst + spanCount;
    let fetchedEnd = 0;
    for (let start = spanFirst, end = start; start < layerEnd; start = end) {
      do end++;
      while (end < layerEnd && archive.span(end).restart === 0);
      if (![...wanted].some((index) => index >= start && index < end)) continue;
      const from = archive.span(start).compressedStart;
      const to = archive.span(end - 1).compressedEnd;
      const next = end < layerEnd ? archive.span(end).compressedStart : compressedBytes;
      cost.bytes.least += to - Math.max(from, fetchedEnd);
      cost.bytes.most += Math.max(to, next) - from;
      if (end - start === 1) cost.spans.least++;
      fetchedEnd = to;
    }
  }
  return cost;
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const totalBytes = () => files.reduce((sum, file) => sum + file.content.length, 0);

/** Digests of all files of argv[1] that argv[2] (JSON) names, read from argv[3] on, each from its start to its end in pieces. */
const readEverything = `
import hashlib, json, os, sys
root, names, first = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3])
digests = {}
for name in names[first:] + names[:first]:
    fd = os.open(os.path.join(root, name), os.O_RDONLY)
    # Nothing that the kernel still has: the server is to be asked.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    digest = hashlib.sha256()
    while piece := os.read(fd, 100000): digest.update(piece)
    os.close(fd)
    digests[name] = digest.hexdigest()
print(json.dumps(digests))`;

/** For each [name, [[offset, length], ...]] of argv[2] (JSON): digests of what one pread gives, past the page cache and through it. */
const readPieces = `
import hashlib, json, os, sys
answers = []
for name, pieces in json.load(open(sys.argv[2])):
    for flags in (os.O_DIRECT, 0):
        fd = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY | flags)
        if not flags: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        answers.append([hashlib.sha256(os.pread(fd, length, offset)).hexdigest() for offset, length in pieces])
        os.close(fd)
print(json.dumps(answers))`;

/** All that one test asks of one file. */
function piecesOf(file: TestFile): Array<[offset: number, length: number]> {
  const size = file.content.length;
  const offsets = [0, 1, span - 1, span, span + 1, size - 1, size, size + 1].filter((offset) => offset >= 0);
  const pieces = offsets.flatMap((offset) =>
    [0, 1, span, size + 1].map((length): [number, number] => [offset, length]),
  );
  // All else that is longer ends at the end as well.
  pieces.push([0, size]);
  // Where spans really begin: restart points are where the compressor has put them.
  for (const { fileOffset } of spansOf(file)) if (fileOffset > 0) pieces.push([fileOffset - 1, 2]);
  return pieces;
}

describe.each(engines)("the %s engine", (engine) => {
  const contentStats = async (host: SkimHost) =>
    (await host.json<{ content: Record<string, number> }>(["stats", "matrix"])).content;

  /** Mounts on a cache that has nothing yet, and unmounts again. */
  async function mounted(use: (root: string, host: SkimHost) => Promise<void>): Promise<void> {
    const host = await makeSkimHost();
    const root = await makeTempDir("matrix-mount");
    await host.ok(["mount", "--engine", engine, "--prefetch", "none", "--id", "matrix", image, root]);
    try {
      await use(root, host);
    } finally {
      await host.ok(["umount", "matrix"]);
    }
    expect(await host.leftovers()).toEqual([]);
  }

  function expectFetchedOnce(stats: Record<string, number>): void {
    const { bytes } = costOfAll();
    expect(stats.fetched_bytes_total).toBeGreaterThanOrEqual(bytes.least);
    expect(stats.fetched_bytes_total).toBeLessThanOrEqual(bytes.most);
    expect(stats).toMatchObject({
      verification_failures_total: 0,
      cache_write_failures_total: 0,
      read_failures_total: 0,
    });
  }

  it("fetches each span once for who reads everything, and nothing for who reads it again", async () => {
    await mounted(async (root, host) => {
      expect(await python(readEverything, root, namesFile, "0")).toEqual(digests);
      const first = await contentStats(host);
      expectFetchedOnce(first);
      const { spans } = costOfAll();
      expect(first.network_spans_total).toBeGreaterThanOrEqual(spans.least);
      // The other engine counts a span for each read that has waited for it, and the kernel sends several at once.
      if (engine === "native") expect(first.network_spans_total).toBeLessThanOrEqual(spans.most);
      expect(await python(readEverything, root, namesFile, "0")).toEqual(digests);
      const second = await contentStats(host);
      expect(second).toMatchObject({
        fetch_requests_total: first.fetch_requests_total,
        fetched_bytes_total: first.fetched_bytes_total,
        network_spans_total: first.network_spans_total,
      });
      // It was asked for, and not found in the kernel, which need not let go of every page.
      expect(second.read_bytes_total! - first.read_bytes_total!).toBeGreaterThan(totalBytes() / 2);
    });
  });

  it("gives eight readers of everything the same bytes, and fetches them once for all", async () => {
    await mounted(async (root, host) => {
      const starts = Array.from({ length: 8 }, (_, i) => `${Math.floor((files.length * i) / 8)}`);
      const read = await Promise.all(starts.map((start) => python(readEverything, root, namesFile, start)));
      for (const found of read) expect(found).toEqual(digests);
      expectFetchedOnce(await contentStats(host));
    });
  });

  it("gives the bytes at every edge of files and spans, past the page cache and through it", async () => {
    await mounted(async (root) => {
      const pieces = files.map((file) => piecesOf(file));
      const list = path.join(dir, `${engine}.json`);
      await writeFile(list, JSON.stringify(files.map((file, i) => [file.path, pieces[i]])));
      const answers = await python<string[][]>(readPieces, root, list);
      for (const [i, { path: name, content }] of files.entries()) {
        const expected = pieces[i]!.map(([offset, length]) => ({
          name,
          offset,
          length,
          digest: sha256(content.subarray(offset, offset + length)),
        }));
        for (const found of answers.slice(2 * i, 2 * i + 2))
          expect(
            pieces[i]!.map(([offset, length], at) => ({ name, offset, length, digest: found[at] })),
          ).toEqual(expected);
      }
    });
  });
});
