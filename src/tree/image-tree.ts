import type { ByteString } from "../base/byte-string.js";
import type { LayerExtent, Xattr } from "../layer/layer-index.js";

export type NodeType = "file" | "directory" | "symlink" | "character" | "block" | "fifo";

/**
 * An inode of the merged image. Several names of one file are the same object: hard links need no other mark.
 * Mutable while layers are applied, read-only afterwards.
 */
export interface TreeNode {
  type: NodeType;
  /** Permission bits, 0 to 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** Bytes of a file; 0 for the others. */
  fileBytes: number;
  /** Symlinks; empty for the others. */
  linkTarget: ByteString;
  deviceMajor: number;
  deviceMinor: number;
  /** Sorted by name bytes. */
  xattrs: readonly Xattr[];
  /** Position of the layer that `extents` point into, base layer = 0. */
  layer: number;
  extents: readonly LayerExtent[];
  /** Directories only. */
  children: Map<ByteString, TreeNode> | undefined;
}

export interface ImageTree {
  readonly root: TreeNode;
  /** What was odd but no error, one sentence each, naming layer and path. */
  readonly warnings: readonly string[];
}
