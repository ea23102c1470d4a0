/**
 * Hard links of one layer: names for an inode that has a name already.
 *
 * A link is resolved at its turn: it takes what its target is at that moment, this layer's file or a lower one's, and keeps it
 * whatever happens to the target's name later. Where nothing stands at the target yet, a placeholder takes the link's name (so that the
 * last entry of a name still wins, and links to the link join it), and is replaced at the layer's end. A target that only this
 * layer's whiteouts have hidden is still found then: the link keeps the old file alive, whether the whiteout stands before or after it.
 *
 * AUFS keeps the bytes of hard-linked files under names of its own (`.wh..wh.plnk/`). They are held here, apart from the tree, for the
 * time of the layer.
 */
import type { ByteString } from "../base/byte-string.js";
import type { LayerEntry } from "../layer/layer-index.js";
import { shownName } from "../layer/tar-names.js";
import type { TreeNode } from "./image-tree.js";
import type { LayerReport } from "./layer-report.js";
import { foldPath, type PathWalker } from "./path-resolution.js";
import { impliedDirectory, nodeOfEntry, placeholderNode } from "./tree-node.js";
import { isAufsPath } from "./whiteouts.js";

/** A link whose target is not there yet, and the names that hold its placeholder. */
interface Pending {
  readonly entry: LayerEntry;
  readonly names: Array<{ readonly dir: TreeNode; readonly name: ByteString }>;
  /** Being followed: coming by again means a circle. */
  followed: boolean;
  found: TreeNode | undefined;
}

export class HardLinks {
  readonly #walker: PathWalker;
  readonly #report: LayerReport;
  readonly #layer: number;
  readonly #pending = new Map<TreeNode, Pending>();
  /** A directory outside the tree; its children's names are whole paths. */
  readonly #aufsFiles: TreeNode;
  #hiddenTargets: ReadonlyMap<LayerEntry, TreeNode> = new Map();

  constructor(walker: PathWalker, report: LayerReport, layer: number) {
    this.#walker = walker;
    this.#report = report;
    this.#layer = layer;
    this.#aufsFiles = impliedDirectory(layer);
  }

  /** Runs `hide`, which applies the layer's whiteouts, and notes the link targets that are gone afterwards. */
  keepTargets(entries: readonly LayerEntry[], hide: () => void): void {
    const targets = new Map<LayerEntry, TreeNode>();
    for (const entry of entries) {
      const target = entry.type === "hardlink" ? this.#walker.nodeAt(entry.linkTarget) : undefined;
      if (target) targets.set(entry, target);
    }
    hide();
    for (const entry of targets.keys()) if (this.#walker.nodeAt(entry.linkTarget)) targets.delete(entry);
    this.#hiddenTargets = targets;
  }

  /** Takes in one of AUFS's own files. Throws as `nodeFor` and `nodeOfEntry`. */
  addAufsFile(entry: LayerEntry): void {
    const name = foldPath(entry.path).join("/") as ByteString;
    const node =
      entry.type === "hardlink"
        ? this.nodeFor(entry, this.#aufsFiles, name)
        : nodeOfEntry(entry, entry.type, this.#layer, this.#report);
    this.#aufsFiles.children!.set(name, node);
  }

  /**
   * The inode that the link `entry` is to name `name` in `dir`: that of its target, or a placeholder until `settle`.
   * Throws LAYER_CORRUPT for a link to a directory.
   */
  nodeFor(entry: LayerEntry, dir: TreeNode, name: ByteString): TreeNode {
    let node = this.#target(entry);
    if (node === undefined) {
      node = placeholderNode(this.#layer);
      this.#pending.set(node, { entry, names: [], followed: false, found: undefined });
    }
    this.#pending.get(node)?.names.push({ dir, name });
    return node;
  }

  /** At the layer's end: puts the targets in the place of all placeholders. Throws LAYER_CORRUPT for what has none. */
  settle(): void {
    for (const [placeholder, pending] of this.#pending) {
      const node = this.#follow(placeholder);
      for (const { dir, name } of pending.names) {
        if (dir.children!.get(name) === placeholder) dir.children!.set(name, node);
      }
    }
  }

  /** Goes from placeholder to placeholder; each is passed once in all, so long chains cost no more than their length. */
  #follow(placeholder: TreeNode): TreeNode {
    const passed: Pending[] = [];
    let node = placeholder;
    for (let pending = this.#pending.get(node); pending; pending = this.#pending.get(node)) {
      if (pending.found) {
        node = pending.found;
        break;
      }
      if (pending.followed) throw this.#missing(pending.entry);
      pending.followed = true;
      passed.push(pending);
      const next = this.#target(pending.entry, this.#hiddenTargets.get(pending.entry));
      if (next === undefined) throw this.#missing(pending.entry);
      node = next;
    }
    for (const pending of passed) pending.found = node;
    return node;
  }

  /** What stands at the link's target now, or `otherwise`. */
  #target(entry: LayerEntry, otherwise?: TreeNode): TreeNode | undefined {
    const path = entry.linkTarget;
    const found = isAufsPath(path)
      ? this.#aufsFiles.children!.get(foldPath(path).join("/") as ByteString)
      : this.#walker.nodeAt(path);
    const node = found ?? otherwise;
    if (node?.type === "directory") {
      const sentence = `is a hard link to the directory ${shownName(path)}; only other files can have several names`;
      throw this.#report.error("LAYER_CORRUPT", entry.path, sentence);
    }
    return node;
  }

  #missing(entry: LayerEntry): Error {
    const found = `is a hard link to ${shownName(entry.linkTarget)}, which is neither in this layer nor in a lower one`;
    return this.#report.error("LAYER_CORRUPT", entry.path, found);
  }
}
