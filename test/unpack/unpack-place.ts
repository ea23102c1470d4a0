import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { type TestImage, type TestLayer, writeTestImage } from "../support/oci-layout.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** Images in a registry on loopback, a cache directory, and a directory to unpack in. */
export interface UnpackPlace {
  readonly dir: string;
  readonly layout: string;
  readonly cacheDir: string;
  /** Where trees go; empty. */
  readonly trees: string;
  readonly registry: EmbeddedRegistry;
  /** Adds an image with these layers as `tag`. */
  add(tag: string, layers: ReadonlyArray<readonly TarEntrySpec[] | TestLayer>): Promise<TestImage>;
  /** The name of the image in the registry. */
  name(tag: string): string;
  /** `unpackImage` with the place's cache; `tree` is below `trees`. */
  unpack(
    tag: string,
    tree: string,
    options?: Partial<Parameters<typeof unpackImage>[0]>,
  ): ReturnType<typeof unpackImage>;
  /** What is in `trees`, hidden names too. */
  names(): Promise<string[]>;
}

export async function makeUnpackPlace(): Promise<UnpackPlace> {
  const dir = await makeTempDir("unpack");
  const layout = path.join(dir, "layout");
  const cacheDir = path.join(dir, "cache");
  const trees = path.join(dir, "trees");
  await mkdir(trees);
  await writeTestImage(layout, [], { tag: "empty" });
  const registry = await startEmbeddedRegistry({ layout });
  const name = (tag: string) => `${registry.host}/test${tag.includes(":") ? "@" : ":"}${tag}`;
  return {
    dir,
    layout,
    cacheDir,
    trees,
    registry,
    name,
    add: (tag, layers) =>
      writeTestImage(
        layout,
        layers.map((layer) => ("tar" in layer ? layer : { tar: buildTar(layer) })),
        { tag },
      ),
    unpack: (tag, tree, options = {}) =>
      unpackImage({
        image: name(tag),
        directory: path.join(trees, tree),
        settings: { cacheDir },
        ...options,
      }),
    names: async () => (await readdir(trees)).sort(),
  };
}
