import type { Archive } from "../../src/archive/archive.js";
import type { ByteString } from "../../src/base/byte-string.js";

/** Everything an archive says of one path. */
export interface WalkedEntry {
  readonly path: string;
  readonly ino: number;
  readonly attributes: ReturnType<Archive["inode"]>;
  readonly target: ByteString | undefined;
  readonly extents: ReturnType<Archive["extents"]>;
  readonly xattrs: ReturnType<Archive["xattrs"]>;
}

/**
 * Asks an archive for all it has: every name by position, by iteration and by lookup, every inode's data, every span and window, every
 * layer's spans by offset. Throws where two ways to the same answer differ.
 */
export function walkArchive(archive: Archive): WalkedEntry[] {
  const entries: WalkedEntry[] = [];
  const waiting: Array<[string, number]> = [["/", 1]];
  const must = (condition: boolean, what: string) => {
    if (!condition) throw new Error(`the archive contradicts itself: ${what}`);
  };
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const [path, ino] = next;
    const attributes = archive.inode(ino);
    entries.push({
      path,
      ino,
      attributes,
      target: attributes.type === "symlink" ? archive.linkTarget(ino) : undefined,
      extents: archive.extents(ino),
      xattrs: archive.xattrs(ino),
    });
    for (const extent of archive.extents(ino)) archive.spanIndexAt(extent.layer, extent.layerOffset);
    let position = 0;
    for (const dirent of archive.dirents(ino)) {
      must(archive.dirent(ino, position).name === dirent.name, `dirent ${position} of ${path}`);
      must(archive.lookup(ino, dirent.name) === dirent.inode, `lookup of ${dirent.name} in ${path}`);
      position++;
      waiting.push([`${path === "/" ? "" : path}/${dirent.name}`, dirent.inode]);
    }
    must(position === archive.direntCount(ino), `direntCount of ${path}`);
    must(archive.lookup(ino, "\0" as ByteString) === 0, `a name that cannot be there, in ${path}`);
  }
  archive.layers.forEach((layer, i) => {
    for (let span = layer.spanFirst; span < layer.spanFirst + layer.spanCount; span++) {
      const { uncompressedOffset, uncompressedLength, windowStored } = archive.span(span);
      must(archive.spanIndexAt(i, uncompressedOffset) === span, `the first byte of span ${span}`);
      must(
        archive.spanIndexAt(i, uncompressedOffset + uncompressedLength - 1) === span,
        `the last of ${span}`,
      );
      const restart = archive.restartSpan(span);
      must(
        restart <= span && restart >= layer.spanFirst && archive.span(restart).restart !== 0,
        `restart of ${span}`,
      );
      must(archive.spanRecords(restart, span + 1).length === (span + 1 - restart) * 80, `records of ${span}`);
      must(archive.window(span).length === windowStored, `window of ${span}`);
    }
  });
  for (const span of archive.startSpans ?? []) archive.span(span);
  return entries;
}
