/** Example cases 18 and 23, and the rule of trailing bytes: how many layers there are, and how they are stored. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { mediaTypes } from "../../src/image/media-types.js";
import { indexImage } from "../../src/mount/index-image.js";
import { gzipMembers, layerBytes, skippableFrame, zstd, zstdFrames } from "../native/blobs.js";
import type { TestLayer } from "../support/oci-layout.js";
import { linesOfTree } from "../support/tree-dump.js";
import { type LayerNotation, merge } from "../tree/notation.js";
import { expectEveryWay, expectListing, writeLayout } from "./four-ways.js";

describe("example 18: stacks", () => {
  it("forty layers that each change one file leave the last version of each", async () => {
    const layers: LayerNotation[] = [["d/", ...Array.from({ length: 10 }, (_, at) => `d/f${at}(0)`)]];
    for (let layer = 1; layer < 40; layer++) layers.push([`d/f${layer % 10}(${layer})`]);
    const expected = [30, 31, 32, 33, 34, 35, 36, 37, 38, 39].map((layer, at) => `d/f${at}(${layer})`);
    await expectListing(layers, ["d/", ...expected].join(" "));
  });

  it("the same layer twice is that layer", async () => {
    const layer = "d/ d/a b=d/a l→d .wh.c";
    await expectListing([layer, layer], merge([layer]).listing);
  });

  it("empty layers change nothing", async () => {
    await expectListing("a ; ; b ; ", "a b");
  });

  it("an image without layers is an empty root", async () => {
    await expectListing([], "");
  });
});

type Store = (tar: Buffer) => Omit<TestLayer, "tar">;

const { ociLayerTar, ociLayerGzip, ociLayerZstd } = mediaTypes;

const stores: Readonly<Record<string, Store>> = {
  gzip: (tar) => ({ blob: gzipSync(tar) }),
  "gzip of several members": (tar) => ({ blob: gzipMembers(tar, 1000) }),
  "gzip with trailing zeros": (tar) => ({ blob: Buffer.concat([gzipSync(tar), Buffer.alloc(5000)]) }),
  "gzip with trailing bytes": (tar) => ({ blob: Buffer.concat([gzipSync(tar), Buffer.alloc(700, "x")]) }),
  zstd: (tar) => ({ blob: zstd(tar), mediaType: ociLayerZstd }),
  "zstd of several frames": (tar) => ({ blob: zstdFrames(tar, 1000), mediaType: ociLayerZstd }),
  "zstd with frames to skip": (tar) => ({
    blob: Buffer.concat([skippableFrame(Buffer.from("toc")), zstd(tar), skippableFrame(Buffer.alloc(64))]),
    mediaType: ociLayerZstd,
  }),
  "plain tar": (tar) => ({ blob: tar, mediaType: ociLayerTar }),
  "gzip called zstd": (tar) => ({ blob: gzipSync(tar), mediaType: ociLayerZstd }),
  "zstd called plain tar": (tar) => ({ blob: zstd(tar), mediaType: ociLayerTar }),
  "plain tar called gzip": (tar) => ({ blob: tar, mediaType: ociLayerGzip }),
  "gzip with a media type of docker's": (tar) => ({
    blob: gzipSync(tar),
    mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  }),
};

describe("example 23: layers stored in any way, whatever their media type says", () => {
  const content = layerBytes();
  const names = Object.keys(stores);
  const image = merge(
    names.map((name, at) => [
      { path: `${name}/`, mtimeSec: at + 1 },
      { path: `${name}/f`, content: content.subarray(at * 30_000, at * 30_000 + 200_000) },
      { path: "last", content: name },
      // Bytes of the layer below are read through the layer above.
      ...(at > 0 ? [`${name}/below=${names[at - 1]}/f`] : []),
    ]),
  );
  const stored = image.layers.map(({ tar }, at) => ({ tar, ...stores[names[at]!]!(tar) }));

  it("are one tree, all in one image (umoci 0.4.7 knows no zstd)", async () => {
    await expectEveryWay(stored, linesOfTree(image, image.contentOf), { umoci: false });
  });

  it("warn of each media type that disagrees with the bytes", async () => {
    const { dir, name } = await writeLayout(stored);
    const { warnings } = await indexImage({ image: name, settings: { cacheDir: `${dir}/cache` } });
    const lies = names.flatMap((store, at) =>
      store.includes("called") ? [`layer ${at + 1} of ${names.length}`] : [],
    );
    const told = warnings.filter((warning) => warning.includes("media type"));
    expect(told.map((warning) => warning.split(",")[0])).toEqual(lies);
  });
});

describe("what is behind the end of a tar", () => {
  const base = merge([["d/", { path: "d/f", content: layerBytes().subarray(0, 100_000) }]]);
  const [layer] = base.layers;
  const tails: Record<string, Buffer> = {
    "padding to a record of 10 KiB": Buffer.alloc(10_240),
    "a megabyte of zeros": Buffer.alloc(1 << 20),
    "bytes that are no tar": Buffer.alloc(3000, "tail"),
    "another tar": merge("d/g h").layers[0]!.tar,
  };
  it("is hashed with it, and changes nothing", async () => {
    for (const tail of Object.values(tails)) {
      const tar = Buffer.concat([layer!.tar, tail]);
      await expectEveryWay([{ tar }], linesOfTree(base, base.contentOf));
    }
  });

  it("may be missing, and so may the end, and padding of the last file", async () => {
    for (const missing of [1024, 1024 + 300]) {
      const tar = layer!.tar.subarray(0, layer!.tar.length - missing);
      await expectEveryWay([{ tar }], linesOfTree(base, base.contentOf), { umoci: missing === 1024 });
    }
  });
});
