import { describe, expect, it } from "vitest";
import type { ByteString } from "../../src/base/byte-string.js";
import { digestOf } from "../../src/image/digest.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { mergeLayers } from "../../src/tree/merge-layers.js";
import { expectAsUmoci } from "./as-umoci.js";
import { type LayerNotation, merge } from "./notation.js";

describe("stacks of layers", () => {
  it("forty layers that each change one file leave the last version of each", async () => {
    const layers: LayerNotation[] = [Array.from({ length: 10 }, (_, at) => `d/f${at}(0)`)];
    for (let layer = 1; layer < 40; layer++) layers.push([`d/f${layer % 10}(${layer})`]);
    const image = merge([["d/"], ...layers]);
    const expected = [30, 31, 32, 33, 34, 35, 36, 37, 38, 39].map((layer, at) => `d/f${at}(${layer})`);
    expect(image.listing).toBe(["d/", ...expected].join(" "));
    await expectAsUmoci(image);
  });

  it("the same layer twice is that layer, and its files are in the upper one", () => {
    const layer = "d/ d/a b=d/a l→d";
    const twice = merge([layer, layer]);
    expect(twice.listing).toBe(merge([layer]).listing);
    expect(twice.node("d/a").layer).toBe(1);
    expect(twice.node("b")).toBe(twice.node("d/a"));
  });

  it("an empty layer changes nothing, and no layers are an empty root", async () => {
    const image = merge("a ; ; b");
    expect(image.listing).toBe("a b");
    expect(merge([]).listing).toBe("");
    await expectAsUmoci(image);
  });

  it("a failing layer leaves the entries as they were: the next merge of the good ones is whole", () => {
    const good = merge("d/a d/b ; d/.wh.a d/c");
    const bad = { digest: good.layers[0]!.digest, entries: merge("x/.wh").layers[0]!.entries };
    const corrupt = { ...bad, entries: [{ ...bad.entries[0]!, path: "x/.wh." as ByteString }] };
    expect(() => mergeLayers([...good.layers, corrupt])).toThrow(/layer 3 of 3/);
    const again = mergeLayers(good.layers);
    expect([...again.root.children!.values()].map((dir) => [...dir.children!.keys()])).toEqual([["b", "c"]]);
  });
});

describe("large layers", () => {
  const digest = digestOf(Buffer.from("large"));
  const [plain] = merge("f").layers[0]!.entries;
  const file = (path: string): LayerEntry => ({ ...plain!, path: path as ByteString });

  it("a path 2,000 directories deep is merged, whited out and linked to without recursion", () => {
    const deep = "d/".repeat(2000);
    const link: LayerEntry = { ...file("h"), type: "hardlink", linkTarget: `${deep}f` as ByteString };
    const { root } = mergeLayers([
      { digest, entries: [file(`${deep}f`), file(`${deep}g`)] },
      { digest, entries: [file(`${deep}.wh.f`), link] },
    ]);
    let at: TreeNode = root;
    for (let depth = 0; depth < 2000; depth++) at = at.children!.get("d" as ByteString)!;
    expect([...at.children!.keys()]).toEqual(["g"]);
    expect(root.children!.get("h" as ByteString)!.type).toBe("file");
  });

  it("a chain of 50,000 hard links in the wrong order is one inode", () => {
    const links = Array.from({ length: 50_000 }, (_, at) => ({
      ...file(`l${at}`),
      type: "hardlink" as const,
      linkTarget: `l${at + 1}` as ByteString,
    }));
    const { root } = mergeLayers([{ digest, entries: [...links, file("l50000")] }]);
    expect(new Set(root.children!.values()).size).toBe(1);
    expect(root.children!.size).toBe(50_001);
  });

  it("100,000 files are hidden by one opaque marker, and one by one by as many whiteouts", () => {
    const names = Array.from({ length: 100_000 }, (_, at) => `f${at}`);
    const lower = { digest, entries: names.map((name) => file(`d/${name}`)) };
    const opaque = { digest, entries: [file("d/.wh..wh..opq")] };
    const whiteouts = { digest, entries: names.map((name) => file(`d/.wh.${name}`)) };
    for (const upper of [opaque, whiteouts])
      expect(mergeLayers([lower, upper]).root.children!.get("d" as ByteString)!.children!.size).toBe(0);
  });
});
