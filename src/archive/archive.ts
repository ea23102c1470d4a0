/**
 * What an opened archive can be asked: the interface between the archive file and everything that serves from it.
 *
 * Inodes, layers and spans are named by number, as in the file: inodes from 1 (the root), layers and spans from 0, spans counted over all
 * layers. All answers come from memory but `window`, which reads the file. An archive that was opened has been checked, so
 * nothing here fails on its content; a number that is out of range is a mistake of the caller (INTERNAL).
 */
import type { ByteString } from "../base/byte-string.js";
import type { ImageConfig } from "../image/config.js";
import type { DiffId, Digest } from "../image/digest.js";
import type { Manifest } from "../image/manifest.js";
import type { Platform } from "../image/platform.js";
import type { Xattr } from "../layer/layer-index.js";
import type { CompressionName } from "../native/binding.js";
import type { NodeType } from "../tree/image-tree.js";
import type { ImageAccounts } from "./accounts.js";

export interface Archive {
  readonly identity: ArchiveIdentity;
  readonly manifest: Manifest;
  /** As the registry has them; their digest is `identity.manifestDigest`. */
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
  readonly configBytes: Uint8Array;
  /** One a layer of the manifest, base layer first. */
  readonly layers: readonly ArchiveLayer[];
  readonly spanCount: number;
  /** Inode numbers are 1 to this. */
  readonly inodeCount: number;
  /** False where no inode of the image has an extended attribute. */
  readonly hasXattrs: boolean;
  readonly totals: ArchiveTotals;
  /** For whoever opens the same file again; undefined for an archive in memory. */
  readonly treeProof: TreeProof | undefined;
  /** In the order of the file, those of unknown types left out. */
  readonly sections: readonly ArchiveSection[];
  /** Of the whole file. */
  readonly archiveBytes: number;
  /**
   * Spans that a start of the image's command needs, none twice, in the order of need; undefined where nobody has looked for them. Not to
   * be changed.
   */
  readonly startSpans: Uint32Array | undefined;
  /** Undefined where the archive does not say: its files do. */
  readonly accounts: ImageAccounts | undefined;

  inode(ino: number): InodeRecord;

  /** Inode number of `name` in the directory `parentIno`; 0 where there is no such name, or no directory. */
  lookup(parentIno: number, name: ByteString): number;
  /** Names in a directory; 0 for all else. */
  direntCount(ino: number): number;
  /** The name at `position` (0 to direntCount - 1) in byte order. */
  dirent(ino: number, position: number): ArchiveDirent;
  /** All names of a directory in byte order; none for all else. */
  dirents(ino: number): IterableIterator<ArchiveDirent>;

  /** The target of the symlink `ino`, as stored. */
  linkTarget(ino: number): ByteString;
  /** Where the bytes of a file are: ascending, without overlap; what none covers reads as zeros. Empty for all else. */
  extents(ino: number): readonly ArchiveExtent[];
  /** Sorted by name bytes. */
  xattrs(ino: number): readonly Xattr[];

  span(spanIndex: number): SpanRecord;
  /** The records of the spans `first` (in) to `end` (out), as they are in the file. A view: not to be changed. */
  spanRecords(first: number, end: number): Uint8Array;
  /** The span that holds the byte at `uncompressedOffset` (below the layer's uncompressedBytes) of a layer. */
  spanIndexAt(layer: number, uncompressedOffset: number): number;
  /** The span at which decoding must start to get `spanIndex`: itself, or the nearest before it that is a restart point. */
  restartSpan(spanIndex: number): number;
  /**
   * The stored window of a span: `windowStored` bytes of raw deflate; empty where it has none. Reads at most 64 KiB of the file,
   * synchronously: it happens once a fetch from the network. Throws LOCAL_IO, and ARCHIVE_DAMAGED where the file has shrunk.
   */
  window(spanIndex: number): Uint8Array;

  /** The sections that a native engine answers from, as they are in the file. Not to be changed. */
  servedSections(): ServedSections;

  /** Closes the file. Afterwards only `window` cannot be called any more. May be called twice. */
  close(): Promise<void>;
}

/** Records as FORMAT.md has them. */
export interface ServedSections {
  readonly inodes: Uint8Array;
  readonly dirents: Uint8Array;
  readonly names: Uint8Array;
  readonly extents: Uint8Array;
  readonly xattrs: Uint8Array;
  readonly xattrValues: Uint8Array;
  readonly layers: Uint8Array;
  readonly spans: Uint8Array;
}

export interface ArchiveIdentity {
  /** What the image was asked for by, complete: `registry/repo:tag`, or `oci:DIR:tag`. */
  readonly reference: string;
  readonly manifestDigest: Digest;
  readonly manifestMediaType: string;
  readonly platform: Platform;
  /** Uncompressed bytes between restart points that the indexer aimed at. */
  readonly spanBytes: number;
  /** What was odd when the image was indexed, one sentence each. */
  readonly warnings: readonly string[];
}

export interface ArchiveLayer {
  /** Of the blob as stored. */
  readonly digest: Digest;
  readonly diffId: DiffId;
  readonly mediaType: string;
  readonly compression: CompressionName;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  /** Layers that are the same blob have the same spans. */
  readonly spanFirst: number;
  /** 0 only where the layer has no uncompressed bytes. */
  readonly spanCount: number;
  /** Spans at which decoding can start. */
  readonly restarts: number;
}

export interface ArchiveTotals {
  readonly fileCount: number;
  readonly directoryCount: number;
  readonly symlinkCount: number;
  readonly characterCount: number;
  readonly blockCount: number;
  readonly fifoCount: number;
  /** Names in all directories: more than inodes - 1 where there are hard links. */
  readonly nameCount: number;
  /** Files with the set-user-ID bit, and those with the set-group-ID bit. */
  readonly setuidCount: number;
  readonly setgidCount: number;
  /** Sizes of all files, holes included, each hard-linked file once. */
  readonly fileBytes: number;
}

/** That the tree of an archive's file was checked; see tree-proof.ts. */
export interface TreeProof {
  /** See fileIdentityOf. */
  readonly file: string;
  /** What the check has counted. */
  readonly totals: ArchiveTotals;
}

export interface ArchiveSection {
  readonly name: string;
  readonly bytes: number;
  readonly records: number;
  /** CRC-32 as the section table has it. */
  readonly crc: number;
}

/** One inode; FORMAT.md, "inodes". */
export interface InodeRecord {
  readonly type: NodeType;
  /** With the type bits: st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** st_size in bytes. */
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Inode number of a directory's parent (the root's own for the root); 0 for all else. */
  readonly parent: number;
  /** Of a directory in dirents, of a file in extents, of a symlink in names. */
  readonly first: number;
  readonly count: number;
  readonly xattrFirst: number;
  readonly xattrCount: number;
}

export interface ArchiveDirent {
  readonly name: ByteString;
  readonly inode: number;
  /** d_type of getdents: DT_REG 8, DT_DIR 4, DT_LNK 10, DT_CHR 2, DT_BLK 6, DT_FIFO 1. */
  readonly type: number;
}

/** `length` bytes of a file from `fileOffset` on are the uncompressed layer's bytes from `layerOffset` on. */
export interface ArchiveExtent {
  readonly fileOffset: number;
  readonly length: number;
  readonly layer: number;
  readonly layerOffset: number;
}

/** One span; FORMAT.md, "spans". */
export interface SpanRecord {
  readonly uncompressedOffset: number;
  readonly uncompressedLength: number;
  /** 0 none, 1 start of a gzip member, zstd frame or plain bytes, 2 start of a deflate block. */
  readonly restart: number;
  readonly startBit: number;
  readonly compressedStart: number;
  readonly compressedEnd: number;
  readonly windowOffset: number;
  readonly windowStored: number;
  readonly windowLength: number;
  /** 32 bytes; a view. */
  readonly sha256: Uint8Array;
}
