/**
 * The Archive over sections that have been checked: answers are read straight from the records, with no index built beside them.
 *
 * Lookup is a binary search over a directory's dirents that compares the name with bytes in place; nothing is decoded on the
 * way. Decoded objects are small and short-lived. Since all records were checked when the archive was opened, what is checked
 * here is only the caller.
 */
import type { ByteString } from "../base/byte-string.js";
import { invariant } from "../base/errors.js";
import type { ImageConfig } from "../image/config.js";
import type { Manifest } from "../image/manifest.js";
import type { Xattr } from "../layer/layer-index.js";
import type { ImageAccounts } from "./accounts.js";
import type {
  Archive,
  ArchiveDirent,
  ArchiveExtent,
  ArchiveIdentity,
  ArchiveLayer,
  ArchiveSection,
  ArchiveTotals,
  InodeRecord,
  ServedSections,
  SpanRecord,
  TreeProof,
} from "./archive.js";
import {
  direntAt,
  direntTypes,
  inodeAt,
  readExtent,
  readInode,
  readSpan,
  readU64,
  readXattr,
  recordBytes,
  spanAt,
} from "./records.js";
import type { LoadedSections, WindowSource } from "./section-bytes.js";

/** What was found out while the sections were checked. */
export interface CheckedFacts {
  readonly identity: ArchiveIdentity;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  readonly layers: readonly ArchiveLayer[];
  readonly restartOf: Uint32Array;
  readonly totals: ArchiveTotals;
  readonly treeProof: TreeProof | undefined;
  readonly sections: readonly ArchiveSection[];
  readonly archiveBytes: number;
  readonly startSpans: Uint32Array | undefined;
  readonly accounts: ImageAccounts | undefined;
}

export class LoadedArchive implements Archive {
  readonly identity: ArchiveIdentity;
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
  readonly configBytes: Uint8Array;
  readonly layers: readonly ArchiveLayer[];
  readonly spanCount: number;
  readonly inodeCount: number;
  readonly hasXattrs: boolean;
  readonly totals: ArchiveTotals;
  readonly treeProof: TreeProof | undefined;
  readonly sections: readonly ArchiveSection[];
  readonly archiveBytes: number;
  readonly startSpans: Uint32Array | undefined;
  readonly accounts: ImageAccounts | undefined;
  readonly #inodes: DataView;
  readonly #dirents: DataView;
  readonly #names: Buffer;
  readonly #extents: DataView;
  readonly #xattrs: DataView;
  readonly #xattrValues: Buffer;
  readonly #spans: DataView;
  readonly #spanBytes: Uint8Array;
  readonly #restartOf: Uint32Array;
  readonly #windows: WindowSource;
  readonly #served: ServedSections;

  constructor(facts: CheckedFacts, loaded: LoadedSections, windows: WindowSource) {
    this.identity = facts.identity;
    this.manifest = facts.manifest;
    this.manifestBytes = loaded.manifest.bytes;
    this.config = facts.config;
    this.configBytes = loaded.config.bytes;
    this.layers = facts.layers;
    this.spanCount = facts.restartOf.length;
    this.inodeCount = loaded.inodes.bytes.length / recordBytes.inodes;
    this.hasXattrs = loaded.xattrs.bytes.length > 0;
    this.totals = facts.totals;
    this.treeProof = facts.treeProof;
    this.sections = facts.sections;
    this.archiveBytes = facts.archiveBytes;
    this.startSpans = facts.startSpans;
    this.accounts = facts.accounts;
    this.#inodes = loaded.inodes.view;
    this.#dirents = loaded.dirents.view;
    this.#names = loaded.names.bytes;
    this.#extents = loaded.extents.view;
    this.#xattrs = loaded.xattrs.view;
    this.#xattrValues = loaded.xattrValues.bytes;
    this.#spans = loaded.spans.view;
    this.#spanBytes = loaded.spans.bytes;
    this.#restartOf = facts.restartOf;
    this.#windows = windows;
    this.#served = {
      inodes: loaded.inodes.bytes,
      dirents: loaded.dirents.bytes,
      names: loaded.names.bytes,
      extents: loaded.extents.bytes,
      xattrs: loaded.xattrs.bytes,
      xattrValues: loaded.xattrValues.bytes,
      layers: loaded.layers.bytes,
      spans: loaded.spans.bytes,
    };
  }

  inode(ino: number): InodeRecord {
    return readInode(this.#inodes, this.#inodeOffset(ino));
  }

  lookup(parentIno: number, name: ByteString): number {
    const range = this.#direntRange(parentIno);
    let low = range.first;
    let high = low + range.count;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      const order = this.#compareName(name, middle * recordBytes.dirents);
      if (order === 0) return this.#dirents.getUint32(middle * recordBytes.dirents + direntAt.inode, true);
      if (order < 0) high = middle;
      else low = middle + 1;
    }
    return 0;
  }

  direntCount(ino: number): number {
    return this.#direntRange(ino).count;
  }

  dirent(ino: number, position: number): ArchiveDirent {
    const { first, count } = this.#direntRange(ino);
    invariant(position >= 0 && position < count, "a dirent is asked for by a position below direntCount");
    return this.#readDirent(first + position);
  }

  *dirents(ino: number): IterableIterator<ArchiveDirent> {
    const { first, count } = this.#direntRange(ino);
    for (let index = first; index < first + count; index++) yield this.#readDirent(index);
  }

  linkTarget(ino: number): ByteString {
    const { type, first, count } = this.inode(ino);
    invariant(type === "symlink", "only a symlink is asked for its target");
    return this.#text(first, count);
  }

  extents(ino: number): readonly ArchiveExtent[] {
    const { type, first, count } = this.inode(ino);
    const extents: ArchiveExtent[] = [];
    if (type !== "file") return extents;
    for (let index = first; index < first + count; index++) {
      extents.push(readExtent(this.#extents, index * recordBytes.extents));
    }
    return extents;
  }

  xattrs(ino: number): readonly Xattr[] {
    const { xattrFirst, xattrCount } = this.inode(ino);
    const xattrs: Xattr[] = [];
    for (let index = xattrFirst; index < xattrFirst + xattrCount; index++) {
      const xattr = readXattr(this.#xattrs, index * recordBytes.xattrs);
      const valueEnd = xattr.valueOffset + xattr.valueLength;
      xattrs.push({
        name: this.#text(xattr.nameOffset, xattr.nameLength),
        value: this.#xattrValues.toString("latin1", xattr.valueOffset, valueEnd) as ByteString,
      });
    }
    return xattrs;
  }

  span(spanIndex: number): SpanRecord {
    this.#requireSpan(spanIndex);
    return readSpan(this.#spans, this.#spanBytes, spanIndex * recordBytes.spans);
  }

  spanRecords(first: number, end: number): Uint8Array {
    invariant(
      first >= 0 && first <= end && end <= this.spanCount,
      "span records are asked for in order and within bounds",
    );
    return this.#spanBytes.subarray(first * recordBytes.spans, end * recordBytes.spans);
  }

  spanIndexAt(layer: number, uncompressedOffset: number): number {
    const found = this.layers[layer];
    invariant(
      found && uncompressedOffset >= 0 && uncompressedOffset < found.uncompressedBytes,
      "a span is asked for by an offset within its layer",
    );
    // The last span that begins at or before the offset.
    let low = found.spanFirst;
    let high = low + found.spanCount;
    while (high - low > 1) {
      const middle = low + Math.floor((high - low) / 2);
      if (readU64(this.#spans, middle * recordBytes.spans + spanAt.uncompressedOffset) <= uncompressedOffset)
        low = middle;
      else high = middle;
    }
    return low;
  }

  restartSpan(spanIndex: number): number {
    this.#requireSpan(spanIndex);
    return this.#restartOf[spanIndex]!;
  }

  window(spanIndex: number): Uint8Array {
    const { windowOffset, windowStored } = this.span(spanIndex);
    return windowStored === 0 ? new Uint8Array(0) : this.#windows.read(windowOffset, windowStored);
  }

  servedSections(): ServedSections {
    return this.#served;
  }

  close(): Promise<void> {
    return this.#windows.close();
  }

  #requireSpan(spanIndex: number): void {
    invariant(
      spanIndex >= 0 && spanIndex < this.spanCount,
      "a span is asked for by a number below spanCount",
    );
  }

  #inodeOffset(ino: number): number {
    invariant(ino >= 1 && ino <= this.inodeCount, "an inode is asked for by a number from 1 to inodeCount");
    return (ino - 1) * recordBytes.inodes;
  }

  #direntRange(ino: number): { first: number; count: number } {
    const at = this.#inodeOffset(ino);
    const isDirectory = this.#inodes.getUint32(at + inodeAt.mode, true) >>> 12 === direntTypes.directory;
    return {
      first: this.#inodes.getUint32(at + inodeAt.first, true),
      count: isDirectory ? this.#inodes.getUint32(at + inodeAt.count, true) : 0,
    };
  }

  #readDirent(index: number): ArchiveDirent {
    const at = index * recordBytes.dirents;
    const nameOffset = this.#dirents.getUint32(at + direntAt.nameOffset, true);
    return {
      name: this.#text(nameOffset, this.#dirents.getUint16(at + direntAt.nameLength, true)),
      inode: this.#dirents.getUint32(at + direntAt.inode, true),
      type: this.#dirents.getUint8(at + direntAt.type),
    };
  }

  /** Below 0 where `name` is before the name of the dirent at `at` in byte order, above 0 where it is behind it. */
  #compareName(name: ByteString, at: number): number {
    const nameOffset = this.#dirents.getUint32(at + direntAt.nameOffset, true);
    const nameLength = this.#dirents.getUint16(at + direntAt.nameLength, true);
    const shared = Math.min(name.length, nameLength);
    for (let i = 0; i < shared; i++) {
      const difference = name.charCodeAt(i) - this.#names[nameOffset + i]!;
      if (difference !== 0) return difference;
    }
    return name.length - nameLength;
  }

  #text(offset: number, length: number): ByteString {
    return this.#names.toString("latin1", offset, offset + length) as ByteString;
  }
}
