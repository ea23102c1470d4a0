/**
 * Example case 23: layers as every tool compresses them, each in its own layer of one image. The tars are GNU tar's, made of files on disk, of
 * which the large ones lie on both sides of a span's end; what every way gives is held against these files.
 */
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { deflateRawSync, gzipSync } from "node:zlib";
import { beforeAll, describe, it } from "vitest";
import { mediaTypes } from "../../src/image/media-types.js";
import {
  filtered,
  gzipMember,
  gzipVariants,
  layerBytes,
  skippableFrame,
  zstd,
  zstdFrames,
} from "../native/blobs.js";
import type { TestLayer } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import { dumpTree } from "../support/tree-dump.js";
import { type ComparisonOptions, expectEveryWay } from "./four-ways.js";

/** The stored form of a tar. */
type Store = (tar: Buffer) => Buffer;

const bytes = layerBytes();

/** One test: layers stored in each of these ways give, all in one image, the files that they were made of. */
function give(
  claim: string,
  stores: () => Readonly<Record<string, Store | [store: Store, mediaType: string]>>,
  options?: ComparisonOptions,
): void {
  it(claim, async () => {
    const source = await makeTempDir("source");
    const wanted = Object.entries(stores());
    for (const [number, [name]] of wanted.entries()) writeFiles(path.join(source, `${number}`), name, number);
    const layers: TestLayer[] = [];
    for (const [number, [, store]] of wanted.entries()) {
      const tar = tarOf(source, `${number}`);
      const [make, mediaType] = Array.isArray(store) ? store : [store, mediaTypes.ociLayerGzip];
      layers.push({ tar, blob: make(tar), mediaType });
    }
    await expectEveryWay(layers, await dumpTree(source), options);
  });
}

/** No two directories have the same bytes, or one could stand for another. */
function writeFiles(directory: string, name: string, number: number): void {
  mkdirSync(directory);
  const files = {
    large: Buffer.concat([Buffer.from(name), bytes]),
    text: bytes.subarray(number, 5000),
    name,
  };
  for (const [file, content] of Object.entries({ ...files, empty: "" }))
    writeFileSync(path.join(directory, file), content);
  linkSync(path.join(directory, "large"), path.join(directory, "link"));
}

/** One directory of the source, with the entry of the root that it hangs from. */
const tarOf = (source: string, name: string): Buffer =>
  execFileSync(
    "tar",
    [
      "--format=pax",
      "--sort=name",
      "-C",
      source,
      "-cf",
      "-",
      "--no-recursion",
      ".",
      "--recursion",
      `./${name}`,
    ],
    { maxBuffer: 2 ** 26 },
  );

/** Entries of a tar, each with its pax header before it, and the end. */
function entriesOf(tar: Buffer): Buffer[] {
  const entries: Buffer[] = [];
  let start = 0;
  for (let at = 0; at < tar.length && tar[at] !== 0; ) {
    const isHeaderOfNext = tar[at + 156] === "x".charCodeAt(0);
    at += 512 + 512 * Math.ceil(Number.parseInt(tar.toString("latin1", at + 124, at + 135), 8) / 512);
    if (isHeaderOfNext) continue;
    entries.push(tar.subarray(start, at));
    start = at;
  }
  return [...entries, tar.subarray(start)];
}

/** The last member of an eStargz layer: empty, with a place in the blob as its extra field. */
const stargzFooter = gzipMember(Buffer.alloc(0), deflateRawSync(Buffer.alloc(0), { level: 0 }), {
  extra: Buffer.from(`SG\x16\x00${"0".repeat(16)}STARGZ`),
});

let ownDir = "";
beforeAll(async () => {
  ownDir = await makeTempDir("gzip");
});

const gnuGzip =
  (...args: string[]): Store =>
  (tar) =>
    filtered("gzip", "gzip", ["-c", ...args], tar);
/** What gzip makes of a file: its name and time are in the header. */
const namedGzip: Store = (tar) => {
  const file = path.join(ownDir, "layer.tar");
  writeFileSync(file, tar);
  return execFileSync("gzip", ["-9c", file], { maxBuffer: 2 ** 26 });
};
const pigz =
  (...args: string[]): Store =>
  (tar) =>
    filtered("pigz", "pigz", ["-nc", "-p2", ...args], tar);
const pythonGzip: Store = (tar) =>
  filtered(
    "python3",
    "/usr/bin/python3",
    ["-c", "import gzip, sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read()))"],
    tar,
  );

describe("example 23: layers in gzip", () => {
  // Go's gzip, and so umoci, has no header fields of more than 512 bytes.
  const { "all header fields": longHeader, ...usual } = gzipVariants;

  give("of every kind of block, header and member are the files that went in, as umoci has it", () => usual);

  give("of every tool are the files that went in, as umoci has it", () => ({
    "gzip -1 -n": gnuGzip("-1", "-n"),
    "gzip -9 -n": gnuGzip("-9", "-n"),
    "gzip -9 of a file, whose name it has": namedGzip,
    "pigz -b 64": pigz("-b", "64"),
    "pigz -b 128": pigz("-b", "128"),
    "pigz --independent": pigz("--independent", "-b", "128"),
    Python: pythonGzip,
    eStargz: (tar) => Buffer.concat([...entriesOf(tar).map((entry) => gzipSync(entry)), stargzFooter]),
    "files in members, one empty in the middle": (tar) =>
      Buffer.concat(entriesOf(tar).flatMap((entry) => [gzipSync(entry), gzipSync(Buffer.alloc(0))])),
  }));

  give(
    "that umoci does not take are the files that went in all the same",
    () => ({
      "all header fields": longHeader!,
      "zeros behind the last member": (tar) => Buffer.concat([pythonGzip(tar), Buffer.alloc(10_240)]),
      "bytes that are no member behind the last one": (tar) =>
        Buffer.concat([pythonGzip(tar), Buffer.from("not a header")]),
    }),
    { umoci: false },
  );
});

describe("example 23: layers in zstd, in gzip and in none, in one image", () => {
  const { ociLayerTar, ociLayerGzip, ociLayerZstd } = mediaTypes;
  const gzip = gnuGzip("-n");
  const plain: Store = (tar) => tar;

  give(
    "are the files that went in, whatever their media type says (umoci 0.4.7 knows no zstd)",
    () => ({
      "one frame": [(tar) => zstd(tar), ociLayerZstd],
      "one frame of level 19 with a checksum": [(tar) => zstd(tar, "-19", "--check"), ociLayerZstd],
      "one frame that says how long it is": [(tar) => zstd(tar, `--stream-size=${tar.length}`), ociLayerZstd],
      "frames of 100,000 bytes": [(tar) => zstdFrames(tar, 100_000), ociLayerZstd],
      "frames with others to skip before, between and behind them": [
        (tar) => {
          const frames = entriesOf(tar).map((entry) => zstd(entry));
          const skipped = skippableFrame(Buffer.from("table of contents"));
          return Buffer.concat([skipped, ...frames.flatMap((frame) => [frame, skipped])]);
        },
        ociLayerZstd,
      ],
      none: [plain, ociLayerTar],
      gzip: [gzip, ociLayerGzip],
      "zstd called gzip": [(tar) => zstd(tar), ociLayerGzip],
      "zstd called plain": [(tar) => zstd(tar), ociLayerTar],
      "gzip called zstd": [gzip, ociLayerZstd],
      "gzip called plain": [gzip, ociLayerTar],
      "plain called gzip": [plain, ociLayerGzip],
      "plain called zstd": [plain, ociLayerZstd],
      "gzip, with docker's media type": [gzip, "application/vnd.docker.image.rootfs.diff.tar.gzip"],
    }),
    { umoci: false },
  );
});
