import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import path from "node:path";
import { promisify } from "node:util";
import type { ByteString } from "../../src/base/byte-string.js";
import type { ImageTree, TreeNode } from "../../src/tree/image-tree.js";

/**
 * One name of a tree with all that can be seen of it. The same lines come from an ImageTree, an unpacked directory and a mount, so that
 * any two of them can be compared.
 */
export interface DumpLine {
  /** Below the root, without a leading `/`; empty for the root. */
  readonly path: ByteString;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of files and symlinks; 0 for what filesystems disagree about. */
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly nlink: number;
  /** The first name (by bytes) of the same inode: equal for all names of a hard-linked file. */
  readonly firstName: ByteString;
  readonly linkTarget: ByteString;
  /** `major:minor` of devices; else empty. */
  readonly device: string;
  /** Names and values, by name. */
  readonly xattrs: ReadonlyArray<readonly [name: ByteString, value: ByteString]>;
  /** Of files; empty where content was not asked for. */
  readonly sha256: string;
}

const script = path.join(import.meta.dirname, "tree-dump.py");

/** Walks `dir` in a child process (Debian package python3-minimal), by path bytes. `content: false` leaves the bytes unread. */
export async function dumpTree(
  dir: string,
  options: { readonly content?: boolean } = {},
): Promise<DumpLine[]> {
  const args = [script, dir, ...(options.content === false ? ["--no-content"] : [])];
  const { stdout } = await promisify(execFile)("/usr/bin/python3", args, { maxBuffer: 2 ** 30 });
  const lines = stdout.split("\n").filter(Boolean);
  return withFirstNames(lines.map((line) => JSON.parse(line) as LineWithInode));
}

/** The lines of an ImageTree; `contentOf` gives the bytes of a file, without it `sha256` is empty. */
export function linesOfTree(
  tree: ImageTree,
  contentOf?: (file: TreeNode) => string | Uint8Array,
): DumpLine[] {
  const lines: LineWithInode[] = [];
  const names = new Map<TreeNode, number>();
  const waiting = [{ path: "" as ByteString, node: tree.root }];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { path, node } = next;
    names.set(node, (names.get(node) ?? 0) + 1);
    let nlink = 0;
    for (const [name, child] of node.children ?? []) {
      waiting.push({ path: (path ? `${path}/${name}` : name) as ByteString, node: child });
      if (child.type === "directory") nlink++;
    }
    const isDevice = node.type === "character" || node.type === "block";
    lines.push({
      path,
      type: node.type,
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      size: node.type === "symlink" ? node.linkTarget.length : node.fileBytes,
      mtimeSec: node.mtimeSec,
      mtimeNsec: node.mtimeNsec,
      nlink: nlink + 2,
      inode: node,
      linkTarget: node.linkTarget,
      device: isDevice ? `${node.deviceMajor}:${node.deviceMinor}` : "",
      xattrs: node.xattrs.map(({ name, value }) => [name, value] as const),
      sha256:
        node.type === "file" && contentOf ? createHash("sha256").update(contentOf(node)).digest("hex") : "",
    });
  }
  return withFirstNames(
    lines.map((line) =>
      line.type === "directory" ? line : { ...line, nlink: names.get(line.inode as TreeNode)! },
    ),
  );
}

/**
 * Where two trees differ, one sentence a difference, at most `max` of them; empty for equal trees. Shorter and faster than a
 * deep equality on ten thousand lines.
 */
export function differences(expected: readonly DumpLine[], actual: readonly DumpLine[], max = 20): string[] {
  const found: string[] = [];
  const left = new Map(actual.map((line) => [line.path, line]));
  for (const line of expected) {
    const other = left.get(line.path);
    left.delete(line.path);
    if (!other) found.push(`${JSON.stringify(line.path)}: missing`);
    for (const key of other ? (Object.keys(line) as Array<keyof DumpLine>) : []) {
      const [a, b] = [JSON.stringify(line[key]), JSON.stringify(other![key])];
      if (a !== b) found.push(`${JSON.stringify(line.path)}: ${key} is ${b}, expected ${a}`);
    }
  }
  for (const path of left.keys()) found.push(`${JSON.stringify(path)}: not expected`);
  return found.length > max ? [...found.slice(0, max), `and ${found.length - max} more`] : found;
}

type LineWithInode = Omit<DumpLine, "firstName"> & { readonly inode: unknown };

function withFirstNames(lines: LineWithInode[]): DumpLine[] {
  lines.sort((a, b) => (a.path < b.path ? -1 : 1));
  const first = new Map<unknown, ByteString>();
  return lines.map(({ inode, ...line }) => {
    if (!first.has(inode)) first.set(inode, line.path);
    return { ...line, firstName: first.get(inode)! };
  });
}
