/** Example case 18 and the rule of trailing bytes: how many layers there are, and where their tars end. */
import { describe, it } from "vitest";
import { layerBytes } from "../native/blobs.js";
import { linesOfTree } from "../support/tree-dump.js";
import { type LayerNotation, merge } from "../tree/notation.js";
import { expectEveryWay, expectListing } from "./four-ways.js";

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
