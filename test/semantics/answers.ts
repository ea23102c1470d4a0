/** What of the answers of operate.py must be the same on two filesystems. */
import type { TreeNode } from "../../src/tree/image-tree.js";
import { treePaths } from "../support/write-tree.js";
import type { Operation } from "./operations.js";

// biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, only compared
export type Answer = any;

/** Answers of two engines. Everything is the same but what statfs's 32 bits do to counts, which these trees do not reach. */
export function forEngines(answers: readonly Answer[]): readonly Answer[] {
  return answers;
}

/**
 * Answers of a mount, and of a plain filesystem with the same tree. Left out is what is the filesystem's own: inode numbers (but not which
 * names share one), the order of listings, times that only a filesystem knows, sizes of directories, blocks, holes, statfs.
 */
export function forPlain(
  answers: readonly Answer[],
  operations: readonly Operation[],
  tree: TreeNode,
): Answer[] {
  const numbers = new Map<number, number>();
  // The first inode that answers see is 1 here, the next 2, and so on.
  const number = (ino: number | null) => {
    if (ino === null) return null;
    if (!numbers.has(ino)) numbers.set(ino, numbers.size + 1);
    return numbers.get(ino)!;
  };
  const hasXattrs = treePaths(tree).some(([, node]) => node.xattrs.length > 0);
  return answers.map((answer, i) => {
    const operation = operations[i]!;
    switch (operation.do) {
      case "stat":
      case "lstat":
      case "statx":
        if (typeof answer === "string") return answer;
        return plainAttributes(answer, number(answer.ino));
      case "list":
      case "resume":
        if (typeof answer === "string") return answer;
        return answer
          .sort((a: Answer, b: Answer) => (a.name < b.name ? -1 : 1))
          .map((entry: Answer) => ({ ...entry, ino: number(entry.ino) }));
      case "seek":
        // Within a file of holes only, a filesystem that knows them finds no data at all (ENXIO).
        return isDataOrHole(operation) && (typeof answer === "number" || answer === "ENXIO")
          ? "somewhere"
          : answer;
      case "getxattr":
      case "listxattr":
        // An image without attributes says that it knows none, for all files.
        if (hasXattrs || answer !== "EOPNOTSUPP") return answer;
        return operation.do === "getxattr" ? "ENODATA" : operation.size === 0 ? 0 : [];
      case "statfs":
        return typeof answer === "string" ? answer : "sizes";
      default:
        return answer;
    }
  });
}

function plainAttributes(answer: Answer, ino: number | null): Answer {
  const { atime, ctime, blocks, blksize, mask, ...rest } = answer;
  const isDirectory = (Number(rest.mode) & 0o170000) === 0o040000;
  return { ...rest, ino, ...(isDirectory ? { size: "a directory's" } : {}) };
}

/** SEEK_DATA is 3, SEEK_HOLE 4. */
function isDataOrHole({ whence }: Operation): boolean {
  return whence === 3 || whence === 4;
}
