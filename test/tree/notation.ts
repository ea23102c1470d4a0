/**
 * Images in one line, as in "x/a x/b/c ; x/new x/.wh..wh..opq": layers are divided by `;`, entries by spaces.
 *
 *   d/      a directory          l→t     a symbolic link to t
 *   f       a file, content "f"  h=t     a hard link to t
 *   f(old)  a file with this content
 *
 * Layers that need more are arrays of such words and of entries as tar-builder.ts takes them. They become real tars, and what is merged is
 * what the tar reader makes of them. A merged tree is listed in the same notation, sorted by path.
 */
import { type ByteString, byteStringFromText, displayText } from "../../src/base/byte-string.js";
import { type Digest, digestOf } from "../../src/image/digest.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import { TarReader } from "../../src/layer/tar-reader.js";
import type { ImageTree, TreeNode } from "../../src/tree/image-tree.js";
import { type MergeOptions, mergeLayers } from "../../src/tree/merge-layers.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";

export type LayerNotation = string | ReadonlyArray<string | TarEntrySpec>;

export interface TestLayerTar {
  readonly digest: Digest;
  readonly tar: Buffer;
  readonly entries: readonly LayerEntry[];
}

/** "a ; b" is two layers; an array holds one element a layer. */
export function layersOf(image: string | readonly LayerNotation[]): TestLayerTar[] {
  const layers = typeof image === "string" ? image.split(";") : image;
  return layers.map((layer) => {
    const words = typeof layer === "string" ? layer.split(" ").filter(Boolean) : layer;
    const tar = buildTar(words.map((word) => (typeof word === "string" ? specOf(word) : word)));
    return { digest: digestOf(tar), tar, entries: entriesOf(tar) };
  });
}

function entriesOf(tar: Buffer): LayerEntry[] {
  const entries: LayerEntry[] = [];
  const onEntry = (entry: LayerEntry) => entries.push(entry);
  const reader = new TarReader({ where: "test layer", entriesMax: 1_000_000, onEntry });
  reader.push(tar);
  reader.end();
  return entries;
}

function specOf(word: string): TarEntrySpec {
  const arrow = word.indexOf("→");
  if (arrow > 0) return { path: word.slice(0, arrow), type: "symlink", link: word.slice(arrow + 1) };
  const equals = word.indexOf("=");
  if (equals > 0) return { path: word.slice(0, equals), type: "hardlink", link: word.slice(equals + 1) };
  const content = /^(.*)\((.*)\)$/.exec(word);
  if (content) return { path: content[1]!, content: content[2]! };
  return word.endsWith("/") ? { path: word } : { path: word, content: word };
}

export interface MergedImage extends ImageTree {
  readonly layers: readonly TestLayerTar[];
  readonly options: MergeOptions;
  readonly contentOf: (file: TreeNode) => Buffer;
  /** In the notation above, without the root. */
  readonly listing: string;
  /** Throws where there is no such path. No link is followed. */
  node(path: string): TreeNode;
}

export function merge(image: string | readonly LayerNotation[], options: MergeOptions = {}): MergedImage {
  const layers = layersOf(image);
  const tree = mergeLayers(layers, options);
  const contentOf = ({ layer, fileBytes, extents }: TreeNode) => {
    const content = Buffer.alloc(fileBytes);
    for (const { fileOffset, layerOffset, length } of extents)
      layers[layer]!.tar.copy(content, fileOffset, layerOffset, layerOffset + length);
    return content;
  };
  const words: Array<readonly [path: string, word: string]> = [];
  addWords(tree.root, "", contentOf, words);
  const listing = words
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, word]) => word)
    .join(" ");
  const node = (path: string) => {
    let at: TreeNode | undefined = tree.root;
    for (const part of path.split("/").filter(Boolean)) at = at?.children?.get(byteStringFromText(part));
    if (!at) throw new Error(`no ${path} in: ${listing}`);
    return at;
  };
  return { ...tree, layers, options, contentOf, node, listing };
}

function addWords(
  dir: TreeNode,
  prefix: string,
  contentOf: (file: TreeNode) => Buffer,
  words: Array<readonly [path: string, word: string]>,
): void {
  for (const [name, node] of dir.children!) {
    const path = prefix + displayText(name);
    const content = node.type === "file" ? contentOf(node).toString() : "";
    if (node.type === "directory") words.push([path, `${path}/`]);
    else if (node.type === "symlink")
      words.push([path, `${path}→${displayText(node.linkTarget as ByteString)}`]);
    else if (node.type !== "file") words.push([path, `${path}(${node.type})`]);
    else words.push([path, content === path ? path : `${path}(${content})`]);
    if (node.type === "directory") addWords(node, `${path}/`, contentOf, words);
  }
}
