/** What of a tree's lines cannot be the same for everybody, each with its reason: all else is compared as it is. */
import { type ByteString, textOf } from "../../src/base/byte-string.js";
import type { DumpLine } from "../support/tree-dump.js";

/** What tree-dump.py prints for it. */
const unreadableTarget = "(EILSEQ)" as ByteString;

/** Lines as a mount by fuse-native shows them: times in milliseconds from 1970 on; no names that are not UTF-8 or have U+FFFD, and such targets cannot be read (SEMANTICS.md). */
export function asFuseNativeShows(lines: readonly DumpLine[]): DumpLine[] {
  const named = lines.filter((line) => textOf(line.path)?.includes("\ufffd") === false);
  const firstNames = new Map<ByteString, ByteString>();
  for (const { firstName, path } of named) if (!firstNames.has(firstName)) firstNames.set(firstName, path);
  return named.map((line) => ({
    ...line,
    firstName: firstNames.get(line.firstName)!,
    linkTarget: textOf(line.linkTarget)?.includes("\ufffd") === false ? line.linkTarget : unreadableTarget,
    mtimeSec: Math.max(line.mtimeSec, 0),
    mtimeNsec: line.mtimeSec < 0 ? 0 : line.mtimeNsec - (line.mtimeNsec % 1_000_000),
  }));
}

/** A directory that no layer describes has mtime 0 with skim; umoci leaves it the time of the extraction. */
export function withoutImpliedTimes(lines: readonly DumpLine[], expected: readonly DumpLine[]): DumpLine[] {
  const implied = new Set(
    expected.filter((line) => line.type === "directory" && line.mtimeSec === 0).map((line) => line.path),
  );
  return lines.map((line) => (implied.has(line.path) ? { ...line, mtimeSec: 0, mtimeNsec: 0 } : line));
}

export function withoutDirectoryTimes(lines: readonly DumpLine[]): DumpLine[] {
  return lines.map((line) => (line.type === "directory" ? { ...line, mtimeSec: 0, mtimeNsec: 0 } : line));
}
