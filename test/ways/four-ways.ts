/**
 * One image, and the tree that each way out of it gives: a mount by either engine, and unpacking in either mode. Each way starts from the OCI
 * layout with a cache of its own, so that none lives on what another has read; all are held against lines that do not come from any of them,
 * and, where its behaviour is the specification's, against what umoci extracts.
 */
import { rm } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { indexImage } from "../../src/mount/index-image.js";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { stampFile } from "../../src/unpack/stamp.js";
import { engines } from "../support/engines.js";
import { type TestLayer, writeTestImage } from "../support/oci-layout.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";
import { type DumpLine, differences, dumpTree, linesOfTree } from "../support/tree-dump.js";
import { unpackLayout } from "../support/umoci.js";
import { type LayerNotation, type MergedImage, merge } from "../tree/notation.js";
import { whileMounted } from "./mount-host.js";
import { asFuseNativeShows, withoutDirectoryTimes, withoutImpliedTimes } from "./shown-lines.js";

export const unpackModes = ["copy", "extract"] as const;

export type UnpackMode = (typeof unpackModes)[number];

/** An OCI layout of one image. */
export interface ImageLayout {
  /** For everything that belongs to it, the layout among it. */
  readonly dir: string;
  /** As the command line takes it. */
  readonly name: string;
}

/** Writes layers, the base layer first, as an image. Goes with the test file, or by `removeTempDir(layout.dir)`. */
export async function writeLayout(layers: readonly TestLayer[]): Promise<ImageLayout> {
  const dir = await makeTempDir("ways");
  const directory = path.join(dir, "image");
  await writeTestImage(directory, layers);
  return { dir, name: `oci:${directory}:latest` };
}

export interface ComparisonOptions {
  /**
   * What umoci extracts is compared as well (default), not at all, or without the times of directories: it leaves those changed that it has
   * made or taken away something in without an entry for that.
   */
  readonly umoci?: boolean | "without times of directories";
  /** What of the lines is compared, where not all can be equal. */
  readonly compared?: (lines: readonly DumpLine[]) => DumpLine[];
  /** Where trees are unpacked to, for what the filesystem of temporary files cannot hold. */
  readonly destination?: string;
}

/** Asserts that every way gives `expected`, but for what SEMANTICS.md says that fuse-native cannot show. */
export async function expectEveryWay(
  layers: readonly TestLayer[],
  expected: readonly DumpLine[],
  { umoci = true, destination, compared = (lines) => [...lines] }: ComparisonOptions = {},
): Promise<void> {
  const layout = await writeLayout(layers);
  const below = destination ?? layout.dir;
  const found = await Promise.all([
    ...(await mountedTrees(layout, expected)),
    ...unpackModes.map(async (mode) => {
      const tree = await unpackedTree(layout, mode, path.join(below, mode));
      return { way: `unpacked in ${mode} mode`, tree, expected };
    }),
    ...(umoci === false ? [] : [umociTree(layout, path.join(below, "umoci"), expected, umoci === true)]),
  ]);
  const differing = found.flatMap(({ way, tree, expected }) =>
    differences(compared(expected), compared(tree)).map((difference) => `${way}: ${difference}`),
  );
  expect(differing).toEqual([]);
  await removeTempDir(layout.dir);
}

/** A way, what came out, and what should have. */
interface FoundTree {
  readonly way: string;
  readonly tree: readonly DumpLine[];
  readonly expected: readonly DumpLine[];
}

async function mountedTrees(
  layout: ImageLayout,
  expected: readonly DumpLine[],
): Promise<Array<Promise<FoundTree>>> {
  const settings = { cacheDir: path.join(layout.dir, "cache of the index") };
  const { archive } = await indexImage({ image: layout.name, settings });
  return engines.map(async (engine) => {
    const cacheDir = path.join(layout.dir, `cache of ${engine}`);
    const tree = await whileMounted({ archive, engine, cacheDir }, dumpTree);
    const shown = engine === "fuse-native" ? asFuseNativeShows(expected) : expected;
    return { way: `mounted by ${engine}`, tree, expected: shown };
  });
}

async function unpackedTree(layout: ImageLayout, mode: UnpackMode, directory: string): Promise<DumpLine[]> {
  const settings = { cacheDir: path.join(layout.dir, `cache of ${mode}`) };
  const unpacked = await unpackImage({ image: layout.name, directory, mode, settings });
  expect(unpacked.mode).toBe(mode);
  return await dumpedAndRemoved(directory, directory);
}

async function umociTree(
  layout: ImageLayout,
  bundle: string,
  expected: readonly DumpLine[],
  withTimes: boolean,
): Promise<FoundTree> {
  const rootfs = await unpackLayout(path.join(layout.dir, "image"), "latest", bundle);
  const tree = await dumpedAndRemoved(rootfs, bundle);
  const way = "extracted by umoci";
  if (withTimes) return { way, tree: withoutImpliedTimes(tree, expected), expected };
  return { way, tree: withoutDirectoryTimes(tree), expected: withoutDirectoryTimes(expected) };
}

/** The tree of `root`, which goes with `directory` and what unpacking notes beside that. */
async function dumpedAndRemoved(root: string, directory: string): Promise<DumpLine[]> {
  const tree = await dumpTree(root);
  await rm(directory, { recursive: true });
  await rm(stampFile(directory), { force: true });
  return tree;
}

type Image = string | readonly LayerNotation[];

/** Layers of a merged image, gzipped. */
export const layersIn = (image: Pick<MergedImage, "layers">): TestLayer[] =>
  image.layers.map(({ tar }) => ({ tar }));

/** Asserts that every way gives the merged tree. */
export async function expectMerged(image: MergedImage, options?: ComparisonOptions): Promise<void> {
  await expectEveryWay(layersIn(image), linesOfTree(image, image.contentOf), options);
}

/** Asserts that the image has this listing, every way. */
export async function expectListing(
  image: Image,
  listing: string,
  options?: ComparisonOptions,
): Promise<void> {
  const merged = merge(image);
  expect(merged.listing).toBe(listing);
  await expectMerged(merged, options);
}

/** One test: the image has this listing every way, and umoci extracts the same. */
export function asUmoci(claim: string, image: Image, listing: string): void {
  it(`${claim}, as umoci has it`, () => expectListing(image, listing));
}

/** As asUmoci, for images that umoci 0.4.7 leaves with times of directories that no layer gives. */
export function asUmociButForTimes(claim: string, image: Image, listing: string): void {
  it(`${claim}, as umoci has it but for times of directories`, () =>
    expectListing(image, listing, { umoci: "without times of directories" }));
}

/** One test: the image has this listing every way. For what umoci 0.4.7 refuses or does in another way, which `claim` says. */
export function ours(claim: string, image: Image, listing: string): void {
  it(claim, () => expectListing(image, listing, { umoci: false }));
}
