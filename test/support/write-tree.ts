import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { run } from "./fuse-mount.js";

const script = path.resolve(import.meta.dirname, "write-tree.py");

/** A tree of files as tests describe it: for an archive, and for `writeTree`. */
export interface DescribedTree {
  readonly root: TreeNode;
  /** What the extents of its files point into. */
  readonly bytes: Buffer;
}

/** Makes the tree in the empty directory `dir` with mkdir, write, mknod, link and so on. Needs root. `layerFile` is written for it. */
export async function writeTree(dir: string, tree: DescribedTree, layerFile: string): Promise<void> {
  await writeFile(layerFile, tree.bytes);
  const input = JSON.stringify(listNodes(tree.root));
  const { code, stderr } = await run("python3", [script, dir, layerFile], { input });
  if (code !== 0) throw new Error(`write-tree.py ended with ${code}: ${stderr}`);
}

/** The path of every name, parents first; the root's is empty. */
export function treePaths(root: TreeNode): Array<readonly [path: string, node: TreeNode]> {
  const found: Array<readonly [string, TreeNode]> = [["", root]];
  const walk = (directory: TreeNode, prefix: string) => {
    for (const [name, child] of directory.children ?? []) {
      found.push([prefix + name, child]);
      walk(child, `${prefix}${name}/`);
    }
  };
  walk(root, "");
  return found;
}

function listNodes(root: TreeNode): unknown[] {
  const firstNames = new Map<TreeNode, string>();
  return treePaths(root).map(([name, node]) => {
    const linkTo = firstNames.get(node);
    if (linkTo !== undefined) return { path: name, linkTo };
    firstNames.set(node, name);
    return {
      path: name,
      type: node.type,
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      size: node.fileBytes,
      target: node.linkTarget,
      device: [node.deviceMajor, node.deviceMinor],
      extents: node.extents.map((extent) => [extent.fileOffset, extent.layerOffset, extent.length]),
      xattrs: node.xattrs.map((xattr) => [xattr.name, xattr.value]),
      time: [node.mtimeSec, node.mtimeNsec],
    };
  });
}
