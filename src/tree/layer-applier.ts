/**
 * Applies one layer to the tree that the lower layers gave.
 *
 * First the layer's whiteouts (see whiteouts.ts), then its entries in their order, at last the hard links whose target came later than they
 * did. An entry takes the place of what had its name; only a directory over a directory changes nothing but the attributes. A name that
 * is replaced gets a new inode, so the other names of a hard-linked file keep the old one.
 *
 * Directories that entries went into are remembered, so that most paths are never walked. Source: image-spec layer.md,
 * "Applying Changesets"; SEMANTICS.md.
 */
import type { ByteString } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import type { LayerEntry } from "../layer/layer-index.js";
import { HardLinks } from "./hard-links.js";
import type { TreeNode } from "./image-tree.js";
import type { LayerReport } from "./layer-report.js";
import { foldPath, hasParentParts, type PathWalker, type SplitPath, splitPath } from "./path-resolution.js";
import { impliedDirectory, nodeOfEntry, setAttributes } from "./tree-node.js";
import { findSpecialEntries, hideLowerNames } from "./whiteouts.js";

/**
 * Directories that one layer implies without describing them. A 4 KiB path can imply 2,000 of them, so the bound on entries does not
 * bound memory; honest layers describe nearly all of their directories.
 */
const IMPLIED_DIRECTORIES_MAX = 1_000_000;

/** What makes a path worth a closer look: a NUL, perhaps a `..` part, perhaps a whiteout. One scan a path instead of three. */
const unusualPath = /\0|\.\.|\.wh\./;

interface Parent {
  readonly dir: TreeNode;
  /** Length of its true path, with a leading `/`; 0 for the root. */
  readonly pathBytes: number;
}

export class LayerApplier {
  readonly #walker: PathWalker;
  readonly #report: LayerReport;
  readonly #layer: number;
  readonly #keepDirlinks: boolean;
  readonly #hardLinks: HardLinks;
  #impliedDirectories = 0;
  /** Directories that entries went into, by their paths as written, for as long as those lead there. */
  readonly #parents = new Map<ByteString, Parent>();

  /** `layer` is the layer's position, base layer = 0. An applier is used for one layer. */
  constructor(walker: PathWalker, report: LayerReport, layer: number, keepDirlinks: boolean) {
    this.#walker = walker;
    this.#report = report;
    this.#layer = layer;
    this.#keepDirlinks = keepDirlinks;
    this.#hardLinks = new HardLinks(walker, report, layer);
  }

  /** Changes the walker's tree. Throws LAYER_CORRUPT or LIMIT_EXCEEDED, and leaves the tree half changed then. */
  apply(entries: readonly LayerEntry[]): void {
    const unusual = entries.filter(({ path }) => path.length > limits.pathBytesMax || unusualPath.test(path));
    for (const entry of unusual) this.#checkPath(entry, entry.path, "name");
    for (const entry of entries)
      if (entry.type === "hardlink") this.#checkPath(entry, entry.linkTarget, "target");
    const special = findSpecialEntries(unusual, this.#report);
    if (special.markers.size > 0) {
      const hide = () => hideLowerNames(special, entries, this.#walker, this.#keepDirlinks);
      this.#hardLinks.keepTargets(entries, hide);
    }
    for (const entry of entries) {
      if (special.markers.has(entry)) continue;
      if (special.aufs.has(entry)) this.#hardLinks.addAufsFile(entry);
      else this.#applyEntry(entry);
    }
    this.#hardLinks.settle();
  }

  #checkPath(entry: LayerEntry, path: ByteString, what: string): void {
    if (path.includes("\0"))
      throw this.#report.error("LAYER_CORRUPT", entry.path, `has a NUL in its ${what}`);
    if (path.length > limits.pathBytesMax) {
      const pathBytes = foldPath(path).join("/").length;
      if (pathBytes > limits.pathBytesMax) throw this.#pathTooLong(entry, what, pathBytes);
    }
    if (hasParentParts(path))
      this.#report.warn(entry.path, `has .. parts in its ${what}: taken as inside the image`);
  }

  #pathTooLong(entry: LayerEntry, what: string, pathBytes: number): Error {
    const found = `has a ${what} of ${pathBytes} bytes; Linux takes ${limits.pathBytesMax} at most`;
    return this.#report.error("LIMIT_EXCEEDED", entry.path, found);
  }

  #applyEntry(entry: LayerEntry): void {
    const place = splitPath(entry.path);
    if (place === undefined) {
      this.#applyRoot(entry);
      return;
    }
    const { dir, pathBytes } = this.#parentAt(entry, place.parent);
    const { name } = place;
    const existing = dir.children!.get(name);
    const described = entry.type === "directory" ? this.#directoryAt(place, existing) : undefined;
    if (described) {
      setAttributes(described, entry, this.#layer, this.#report);
      return;
    }
    this.#checkNewName(entry, name, pathBytes + 1 + name.length);
    const node =
      entry.type === "hardlink"
        ? this.#hardLinks.nodeFor(entry, dir, name)
        : nodeOfEntry(entry, entry.type, this.#layer, this.#report);
    dir.children!.set(name, node);
    // Remembered paths may have led through what is gone now. No other change can be on their way.
    if (existing?.type === "directory" || existing?.type === "symlink") this.#parents.clear();
  }

  #applyRoot(entry: LayerEntry): void {
    if (entry.type !== "directory") {
      const found = `is a ${entry.type} in the place of the root directory; the layer has to be built again`;
      throw this.#report.error("LAYER_CORRUPT", entry.path, found);
    }
    setAttributes(this.#walker.root, entry, this.#layer, this.#report);
  }

  /** The directory that a directory entry describes anew; undefined where it takes the place of what has its name. */
  #directoryAt(place: SplitPath, existing: TreeNode | undefined): TreeNode | undefined {
    if (existing?.type === "directory") return existing;
    if (!this.#keepDirlinks || existing?.type !== "symlink") return undefined;
    return this.#walker.directoryAt(`${place.parent}/${place.name}` as ByteString);
  }

  /**
   * The directory that `path` leads to; what is missing of it is implied. It is entered from the directory above it where that can be done:
   * of many new directories in a deep place, none is walked to from the root.
   */
  #parentAt(entry: LayerEntry, path: ByteString): Parent {
    const known = this.#parents.get(path);
    if (known) return known;
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1) as ByteString;
    let found: Parent | undefined;
    if (slash > 0 && name !== "" && name !== ".") {
      const abovePath = path.slice(0, slash) as ByteString;
      const above = this.#parents.get(abovePath) ?? this.#walkTo(entry, abovePath);
      const child = above.dir.children!.get(name);
      if (child?.type !== "symlink") found = this.#enter(entry, above, name, child);
    }
    found ??= this.#walkTo(entry, path);
    this.#parents.set(path, found);
    return found;
  }

  #walkTo(entry: LayerEntry, path: ByteString): Parent {
    const walk = this.#walker.walk(path);
    if (walk === undefined) {
      const found =
        "leads through symbolic links in a circle, or through more than 40; the layer has to be built again";
      throw this.#report.error("LAYER_CORRUPT", entry.path, found);
    }
    let parent: Parent = { dir: this.#walker.root, pathBytes: 0 };
    for (let at = 1; at < walk.nodes.length; at++)
      parent = this.#enter(entry, parent, walk.names[at]!, walk.nodes[at]);
    this.#parents.set(path, parent);
    return parent;
  }

  /** Goes down to `child`, which stands at `name`; where it is no directory, an implied one takes its place. */
  #enter(
    entry: LayerEntry,
    { dir, pathBytes }: Parent,
    name: ByteString,
    child: TreeNode | undefined,
  ): Parent {
    const childBytes = pathBytes + 1 + name.length;
    if (child?.type === "directory") return { dir: child, pathBytes: childBytes };
    this.#checkNewName(entry, name, childBytes);
    if (++this.#impliedDirectories > IMPLIED_DIRECTORIES_MAX) {
      const found = `needs one more directory that the layer does not describe; ${IMPLIED_DIRECTORIES_MAX} are allowed`;
      throw this.#report.error("LIMIT_EXCEEDED", entry.path, found);
    }
    const implied = impliedDirectory(this.#layer);
    dir.children!.set(name, implied);
    return { dir: implied, pathBytes: childBytes };
  }

  #checkNewName(entry: LayerEntry, name: ByteString, pathBytes: number): void {
    if (name.length > limits.nameBytesMax) throw this.#report.nameTooLong(entry.path, name);
    if (pathBytes > limits.pathBytesMax) throw this.#pathTooLong(entry, "path", pathBytes);
  }
}
