import { expect, it } from "vitest";
import { differences, dumpTree, linesOfTree } from "../support/tree-dump.js";
import { unpackLayers } from "../support/umoci.js";
import { type LayerNotation, type MergedImage, merge } from "./notation.js";

/**
 * Asserts that umoci extracts the same tree, in everything that can be seen of it. A directory that no layer describes has mtime 0 here and the
 * time of the extraction there: that one attribute is left out.
 */
export async function expectAsUmoci(image: MergedImage): Promise<void> {
  const rootfs = await unpackLayers(
    image.layers.map((layer) => layer.tar),
    image.options,
  );
  const ours = linesOfTree(image, image.contentOf);
  const implied = new Set(
    ours.filter((line) => line.type === "directory" && line.mtimeSec === 0).map((line) => line.path),
  );
  const umocis = (await dumpTree(rootfs)).map((line) =>
    implied.has(line.path) ? { ...line, mtimeSec: 0, mtimeNsec: 0 } : line,
  );
  expect(differences(umocis, ours)).toEqual([]);
}

/** One test: the image has this listing, and umoci extracts the same. */
export function asUmoci(claim: string, image: string | readonly LayerNotation[], listing: string): void {
  it(`${claim}, as umoci has it`, async () => {
    const merged = merge(image);
    expect(merged.listing).toBe(listing);
    await expectAsUmoci(merged);
  });
}

/** One test: the image has this listing. For what umoci 0.4.7 refuses or does in another way, which `claim` says. */
export function ours(claim: string, image: string | readonly LayerNotation[], listing: string): void {
  it(claim, () => expect(merge(image).listing).toBe(listing));
}
