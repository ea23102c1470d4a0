/**
 * Turns an image tree into the sections inodes, dirents, extents, xattrs and xattrValues, in the one order that FORMAT.md gives.
 *
 * Two passes, neither recursive (a tree may be 2048 directories deep). The first numbers the nodes: a directory's children that have
 * no number yet together, in the order of their names, then the same for each child directory in turn. The second goes through the
 * nodes in the order of their numbers and writes each one's records; all counts are known by then, so that the buffers of inodes,
 * dirents and extents have their final size from the start.
 *
 * What the format cannot hold, though a tar can say it, is refused here with the path: the reader would refuse the archive.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { type ErrorCode, invariant, SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { TreeNode } from "../tree/image-tree.js";
import { BytePool, GrowableBytes, mapEntriesMax, requireSectionBytes } from "./byte-pool.js";
import {
  direntTypes,
  recordBytes,
  viewOf,
  writeDirent,
  writeExtent,
  writeInode,
  writeXattr,
} from "./records.js";
import {
  deviceMajorMax,
  deviceMinorMax,
  directoryBytes,
  isOverlayXattr,
  nanosecondsMax,
  ownerIdMax,
  xattrNameBytesMax,
} from "./tree-rules.js";

export interface TreeSections {
  readonly inodes: Uint8Array;
  readonly dirents: Uint8Array;
  readonly extents: Uint8Array;
  readonly xattrs: Uint8Array;
  readonly xattrValues: Uint8Array;
}

/**
 * Encodes the tree below `root`; its names are added to `names`. `layerBytes` are the uncompressed sizes of the layers that extents
 * point into. Throws LIMIT_EXCEEDED, LAYER_UNSUPPORTED.
 */
export function encodeTree(root: TreeNode, names: BytePool, layerBytes: readonly number[]): TreeSections {
  const numbered = numberNodes(root);
  const { nodes } = numbered;
  const inodes = sectionOf("inodes", nodes.length);
  const dirents = sectionOf("dirents", numbered.direntCount);
  const extents = sectionOf("extents", numbered.extentCount);
  const xattrs = new XattrEncoder(names);
  const inodeView = viewOf(inodes);
  const direntView = viewOf(dirents);
  const extentView = viewOf(extents);
  const refuse: RefuseNode = (node, code, found) => {
    throw new SkimError(code, `${displayText(pathOf(root, node))} cannot be put into an archive: ${found}`);
  };
  let direntIndex = 0;
  let extentIndex = 0;

  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i]!;
    checkNode(node, refuse);
    let first = 0;
    let count = 0;
    let size = 0;
    if (node.type === "symlink") {
      first = names.offsetOf(node.linkTarget);
      count = size = node.linkTarget.length;
    }
    const xattrFirst = xattrs.firstOf(node, refuse);
    if (node.type === "directory") {
      size = directoryBytes;
      first = direntIndex;
      const children = numbered.children[i]!;
      for (let position = 0; position < children.names.length; position++) {
        const name = children.names[position]!;
        const ino = children.inodes[position]!;
        const child = nodes[ino - 1]!;
        checkName(node, name, child, refuse);
        writeDirent(
          direntView,
          direntIndex++ * recordBytes.dirents,
          ino,
          names.offsetOf(name),
          name.length,
          direntTypes[child.type],
        );
      }
      count = direntIndex - first;
    } else if (node.type === "file") {
      size = node.fileBytes;
      first = extentIndex;
      count = node.extents.length;
      checkExtents(node, layerBytes);
      for (const { fileOffset, length, layerOffset } of node.extents) {
        const extent = { fileOffset, length, layer: node.layer, layerOffset };
        writeExtent(extentView, extentIndex++ * recordBytes.extents, extent);
      }
    }
    writeInode(inodeView, i * recordBytes.inodes, {
      mode: (direntTypes[node.type] << 12) | node.mode,
      uid: node.uid,
      gid: node.gid,
      nlink: numbered.links[i]!,
      size,
      mtimeSec: node.mtimeSec,
      mtimeNsec: node.mtimeNsec,
      deviceMajor: isDevice(node) ? node.deviceMajor : 0,
      deviceMinor: isDevice(node) ? node.deviceMinor : 0,
      parent: numbered.parents[i]!,
      first,
      count,
      xattrFirst,
      xattrCount: node.xattrs.length,
    });
  }
  return { inodes, dirents, extents, ...xattrs.finish() };
}

interface NumberedNodes {
  /** Node of inode number i + 1 at i; so are the lists below. */
  readonly nodes: readonly TreeNode[];
  /** Inode number of a directory's parent; 0 for all else. */
  readonly parents: readonly number[];
  /** st_nlink. */
  readonly links: readonly number[];
  /** Names in byte order, with their inode numbers beside them; undefined for all but directories. */
  readonly children: ReadonlyArray<NumberedChildren | undefined>;
  readonly direntCount: number;
  readonly extentCount: number;
}

interface NumberedChildren {
  readonly names: readonly ByteString[];
  readonly inodes: readonly number[];
}

function numberNodes(root: TreeNode): NumberedNodes {
  const nodes: TreeNode[] = [];
  const inodeOf = new Map<TreeNode, number>();
  const parents: number[] = [];
  const links: number[] = [];
  const childrenOf: Array<NumberedChildren | undefined> = [];
  let direntCount = 0;
  let extentCount = 0;

  const add = (node: TreeNode, parent: number) => {
    if (nodes.length >= mapEntriesMax) {
      throw new SkimError(
        "LIMIT_EXCEEDED",
        `the image has more than ${mapEntriesMax} files, so it cannot be indexed`,
      );
    }
    nodes.push(node);
    inodeOf.set(node, nodes.length);
    const isDirectory = node.type === "directory";
    invariant(
      isDirectory === (node.children !== undefined),
      "directories have children, and nothing else has",
    );
    parents.push(isDirectory ? parent : 0);
    links.push(isDirectory ? 2 : 1);
    childrenOf.push(undefined);
    if (node.type === "file") extentCount += node.extents.length;
  };

  invariant(root.type === "directory", "the root of a tree is a directory");
  add(root, 1);
  const waiting = [1];
  for (let parent = waiting.pop(); parent !== undefined; parent = waiting.pop()) {
    const children = nodes[parent - 1]!.children!;
    // The default order of strings is that of their code units, which here are bytes.
    const sorted = [...children.keys()].sort();
    const inodes: number[] = [];
    childrenOf[parent - 1] = { names: sorted, inodes };
    direntCount += sorted.length;
    const numberedBefore = nodes.length;
    for (const name of sorted) {
      const child = children.get(name)!;
      const known = inodeOf.get(child);
      if (known === undefined) {
        add(child, parent);
        inodes.push(nodes.length);
        if (child.type === "directory") links[parent - 1]!++;
      } else {
        invariant(child.type !== "directory", "a directory is in a tree only once");
        links[known - 1]!++;
        inodes.push(known);
      }
    }
    // Pushed backwards, so that the first child is the next to be taken.
    for (let i = nodes.length - 1; i >= numberedBefore; i--) {
      if (nodes[i]!.type === "directory") waiting.push(i + 1);
    }
  }
  return { nodes, parents, links, children: childrenOf, direntCount, extentCount };
}

/** Throws; says of which node. */
type RefuseNode = (node: TreeNode, code: ErrorCode, found: string) => never;

function isDevice(node: TreeNode): boolean {
  return node.type === "character" || node.type === "block";
}

function checkNode(node: TreeNode, refuse: RefuseNode): void {
  invariant(node.mode >= 0 && node.mode <= 0o7777, "the mode of a node is its permission bits");
  if (!isOwnerId(node.uid) || !isOwnerId(node.gid)) {
    refuse(node, "LIMIT_EXCEEDED", `its owner ${node.uid}:${node.gid} is not within 0 to ${ownerIdMax}`);
  }
  if (!Number.isSafeInteger(node.mtimeSec) || !(node.mtimeNsec >= 0 && node.mtimeNsec <= nanosecondsMax)) {
    refuse(node, "LIMIT_EXCEEDED", `its time ${node.mtimeSec}.${node.mtimeNsec} cannot be represented`);
  }
  if (isDevice(node) && !(node.deviceMajor <= deviceMajorMax && node.deviceMinor <= deviceMinorMax)) {
    refuse(node, "LIMIT_EXCEEDED", `Linux has no device ${node.deviceMajor}:${node.deviceMinor}`);
  }
  if (node.type === "symlink") {
    const { length } = node.linkTarget;
    if (length < 1 || length > limits.symlinkBytesMax) {
      refuse(node, "LIMIT_EXCEEDED", `its target has ${length} bytes, not 1 to ${limits.symlinkBytesMax}`);
    }
    if (node.linkTarget.includes("\0")) refuse(node, "LAYER_UNSUPPORTED", "its target has a NUL byte");
  }
  if (!(Number.isSafeInteger(node.fileBytes) && node.fileBytes >= 0))
    refuse(node, "LIMIT_EXCEEDED", `its size ${node.fileBytes} is not 0 to 2^53`);
}

function isOwnerId(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= ownerIdMax;
}

function checkName(directory: TreeNode, name: ByteString, child: TreeNode, refuse: RefuseNode): void {
  if (name.length < 1 || name.length > limits.nameBytesMax) {
    refuse(
      directory,
      "LIMIT_EXCEEDED",
      `it has a ${child.type} whose name has ${name.length} bytes, not 1 to ${limits.nameBytesMax}`,
    );
  }
  if (name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
    refuse(directory, "LAYER_UNSUPPORTED", `it has a ${child.type} named "${displayText(name)}"`);
  }
}

function checkExtents(file: TreeNode, layerBytes: readonly number[]): void {
  let end = 0;
  for (const { fileOffset, length, layerOffset } of file.extents) {
    invariant(
      length >= 1 && fileOffset >= end && layerOffset >= 0,
      "extents have bytes, ascend and do not overlap",
    );
    end = fileOffset + length;
    invariant(end <= file.fileBytes, "extents end within their file");
    invariant(layerOffset + length <= (layerBytes[file.layer] ?? -1), "extents end within their layer");
  }
}

class XattrEncoder {
  readonly #names: BytePool;
  readonly #values = new BytePool("xattrValues");
  readonly #records = new GrowableBytes("xattrs");
  readonly #firstOfSet = new Map<string, number>();

  constructor(names: BytePool) {
    this.#names = names;
  }

  /** The index of the first record of a node's set, which is added if it is new. 0 for the empty one. */
  firstOf(node: TreeNode, refuse: RefuseNode): number {
    const set = node.xattrs;
    if (set.length === 0) return 0;
    checkXattrs(node, refuse);
    const records = set.map(({ name, value }) => ({
      nameOffset: this.#names.offsetOf(name),
      nameLength: name.length,
      valueOffset: this.#values.offsetOf(value),
      valueLength: value.length,
    }));
    // Names and values are stored once: where they are says what they are.
    const key = records.map((record) => Object.values(record).join(" ")).join();
    const known = this.#firstOfSet.get(key);
    if (known !== undefined) return known;
    const first = this.#records.length / recordBytes.xattrs;
    for (const record of records) {
      const at = this.#records.reserve(recordBytes.xattrs);
      writeXattr(this.#records.view, at, record);
    }
    this.#firstOfSet.set(key, first);
    return first;
  }

  finish(): { xattrs: Uint8Array; xattrValues: Uint8Array } {
    return { xattrs: this.#records.finish(), xattrValues: this.#values.finish() };
  }
}

function checkXattrs(node: TreeNode, refuse: RefuseNode): void {
  let nameBefore = "";
  let listBytes = 0;
  for (const { name, value } of node.xattrs) {
    invariant(name > nameBefore, "the xattrs of a node have names, each once, in byte order");
    invariant(!isOverlayXattr(name), "xattrs that overlayfs obeys do not get into a tree");
    nameBefore = name;
    listBytes += name.length + 1;
    if (name.length > xattrNameBytesMax)
      refuse(
        node,
        "LIMIT_EXCEEDED",
        `an xattr's name has ${name.length} bytes, more than ${xattrNameBytesMax}`,
      );
    if (name.includes("\0")) refuse(node, "LAYER_UNSUPPORTED", "an xattr's name has a NUL byte");
    if (value.length > limits.xattrValueBytesMax) {
      refuse(
        node,
        "LIMIT_EXCEEDED",
        `its xattr ${displayText(name)} has ${value.length} bytes, more than ${limits.xattrValueBytesMax}`,
      );
    }
  }
  if (listBytes > limits.xattrListBytesMax) {
    refuse(
      node,
      "LIMIT_EXCEEDED",
      `the names of its xattrs have ${listBytes} bytes, more than ${limits.xattrListBytesMax}`,
    );
  }
}

function sectionOf(section: "inodes" | "dirents" | "extents", records: number): Uint8Array {
  const bytes = records * recordBytes[section];
  requireSectionBytes(section, bytes);
  return Buffer.alloc(bytes);
}

/** A path of `wanted`, for an error: by looking for it. */
function pathOf(root: TreeNode, wanted: TreeNode): ByteString {
  const waiting: Array<[path: string, node: TreeNode]> = [["", root]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [path, node] = next;
    if (node === wanted) return (path || "/") as ByteString;
    for (const [name, child] of node.children ?? []) waiting.push([`${path}/${name}`, child]);
  }
  return "/" as ByteString;
}
