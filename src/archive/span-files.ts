/**
 * Which files have bytes in which spans: the way back from a span, which is what is fetched and waited for, to a path that tells people something. It is looked for
 * when somebody asks, in one pass over the tree; nothing is kept for it.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import type { Archive, ArchiveExtent } from "./archive.js";

export interface FileOfSpan {
  /** For people: the file with the most bytes in the span, one of its names where it has several. */
  readonly path: string;
  /** How many other files have bytes in it. */
  readonly others: number;
}

type SearchedArchive = Pick<
  Archive,
  "inode" | "inodeCount" | "dirents" | "extents" | "layers" | "span" | "spanIndexAt"
>;

/** Spans without a file (headers of the tar, and files that a later layer hides) are left out. `spans`: indexes in the archive. */
export function filesOfSpans(archive: SearchedArchive, spans: Iterable<number>): Map<number, FileOfSpan> {
  const wanted = new Set(spans);
  if (wanted.size === 0) return new Map();
  const found = new Map<number, { ino: number; bytes: number; files: number }>();
  for (let ino = 1; ino <= archive.inodeCount; ino++) {
    if (archive.inode(ino).type !== "file") continue;
    for (const [span, bytes] of bytesBySpan(archive, archive.extents(ino), wanted)) {
      const most = found.get(span);
      const isMost = most === undefined || bytes > most.bytes;
      const files = (most?.files ?? 0) + 1;
      found.set(span, { ino: isMost ? ino : most.ino, bytes: isMost ? bytes : most.bytes, files });
    }
  }
  const paths = pathsOf(archive, new Set([...found.values()].map(({ ino }) => ino)));
  return new Map(
    [...found].map(([span, { ino, files }]) => [span, { path: paths.get(ino)!, others: files - 1 }]),
  );
}

/** Of the file with these extents, bytes in each of the spans that are wanted. */
function bytesBySpan(
  archive: SearchedArchive,
  extents: readonly ArchiveExtent[],
  wanted: ReadonlySet<number>,
): Map<number, number> {
  const bytes = new Map<number, number>();
  for (const { layer, layerOffset, length } of extents) {
    const end = layerOffset + length;
    for (let at = layerOffset, span = archive.spanIndexAt(layer, at); at < end; span++) {
      const { uncompressedOffset, uncompressedLength } = archive.span(span);
      const next = Math.min(uncompressedOffset + uncompressedLength, end);
      if (wanted.has(span)) bytes.set(span, (bytes.get(span) ?? 0) + next - at);
      at = next;
    }
  }
  return bytes;
}

/** One path for each of `inodes`. */
function pathsOf(archive: SearchedArchive, inodes: ReadonlySet<number>): Map<number, string> {
  const names = new Map<number, { name: ByteString; parent: number }>();
  for (let ino = 1; ino <= archive.inodeCount; ino++) {
    if (archive.inode(ino).type !== "directory") continue;
    for (const { inode, name } of archive.dirents(ino)) {
      const isNeeded = inodes.has(inode) || archive.inode(inode).type === "directory";
      if (isNeeded && !names.has(inode)) names.set(inode, { name, parent: ino });
    }
  }
  const pathOf = (ino: number): string => {
    const named = names.get(ino);
    return named ? `${pathOf(named.parent)}/${displayText(named.name)}` : "";
  };
  return new Map([...inodes].map((ino) => [ino, pathOf(ino)]));
}
