import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { makeTempDir } from "../support/temp-dir.js";
import { type DumpLine, dumpTree } from "../support/tree-dump.js";

/** Directories of the source tree, by what it takes of a tar to hold them. */
export const groups = [
  /** Everything that every format holds: modes, owners, hard links, symbolic links, names of any ASCII bytes. */
  "plain",
  /** A path of 200 bytes. */
  "split",
  /** Paths of more than 256 bytes, names and targets of more than 100. */
  "long",
  /** Names in UTF-8. */
  "text",
  /** Names that are not UTF-8. */
  "bytes",
  /** A FIFO and devices. */
  "special",
  /** A device with the highest numbers that there are. */
  "devices",
  /** Owners above 2^21. */
  "owners",
  /** Times before 1970, in whole seconds, and after 2242. */
  "old",
  /** A time before 1970 that is half a second. */
  "halves",
  /** Extended attributes, a file capability among them. */
  "xattrs",
  "sparse",
] as const;

export type Group = (typeof groups)[number];

export interface SourceTree {
  readonly dir: string;
  /** As the kernel shows it: what every tar of it is held against. */
  readonly lines: readonly DumpLine[];
}

/** Makes the tree of source-tree.py, which goes with the test file. */
export async function makeSourceTree(): Promise<SourceTree> {
  const dir = path.join(await makeTempDir("source"), "tree");
  await promisify(execFile)("mkdir", [dir]);
  await promisify(execFile)("/usr/bin/python3", [path.join(import.meta.dirname, "source-tree.py"), dir]);
  return { dir, lines: await dumpTree(dir) };
}

/** The lines of the root and of some of its directories, as if the others had never been there. */
export function linesWithout(lines: readonly DumpLine[], without: readonly Group[]): DumpLine[] {
  const kept = groups.filter((group) => !without.includes(group));
  return lines
    .filter(({ path }) => path === "" || kept.some((group) => path === group || path.startsWith(`${group}/`)))
    .map((line) => (line.path === "" ? { ...line, nlink: 2 + kept.length } : line));
}

export const wholeSeconds = (lines: readonly DumpLine[]): DumpLine[] =>
  lines.map((line) => ({ ...line, mtimeNsec: 0 }));

/** As tars have it whose writer looks for further names of regular files only, or of some other types too. */
export const linkedOnly = (lines: readonly DumpLine[], types: readonly string[]): DumpLine[] =>
  lines.map((line) =>
    line.type === "directory" || types.includes(line.type)
      ? line
      : { ...line, nlink: 1, firstName: line.path },
  );

export const withoutXattrs = (lines: readonly DumpLine[]): DumpLine[] =>
  lines.map((line) => ({ ...line, xattrs: [] }));
