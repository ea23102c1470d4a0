import type { ByteString } from "../base/byte-string.js";
import type { DiffId, Digest } from "../image/digest.js";
import type { CompressionName } from "../native/binding.js";

/** What one pass over a layer blob finds out. Kept by digest and span size, and shared by all images with the layer. */
export interface LayerIndex {
  /** Of the blob as stored. */
  readonly digest: Digest;
  readonly diffId: DiffId;
  /** By the magic of the bytes, not by the media type. */
  readonly compression: CompressionName;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  /** Bytes of the blob behind the end of its compressed data, which are hashed and ignored. */
  readonly trailingBytes: number;
  /** Records as in the archive (FORMAT.md, "spans"), `windowOffset` counted from the start of `windows`. */
  readonly spanRecords: Uint8Array;
  readonly windows: Uint8Array;
  /** Tar members in their order. */
  readonly entries: readonly LayerEntry[];
  /** What is odd but no error in the tar, one sentence each, for people. */
  readonly warnings: readonly string[];
}

export type EntryType = "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";

/** One tar member, as the tar has it: nothing resolved, no whiteout applied. */
export interface LayerEntry {
  /** As stored, but for PAX and GNU long names put in place. May have a leading `/` or `./`, `..`, a trailing `/`. */
  readonly path: ByteString;
  readonly type: EntryType;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of the file as it will read (a sparse file: with its holes); 0 for all but files. */
  readonly fileBytes: number;
  /** Whole seconds, may be negative, and 0 to 999,999,999 nanoseconds forward from there. */
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Target of a symlink or hard link as stored; empty otherwise. */
  readonly linkTarget: ByteString;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** `SCHILY.xattr.*` records in their order, a repeated name only once (the last). */
  readonly xattrs: readonly Xattr[];
  /** Where the bytes are; ascending, no overlap; gaps and a missing tail read as zeros. */
  readonly extents: readonly LayerExtent[];
}

export interface Xattr {
  readonly name: ByteString;
  readonly value: ByteString;
}

/** `length` bytes of the file from `fileOffset` on are the uncompressed layer's bytes from `layerOffset` on. */
export interface LayerExtent {
  readonly fileOffset: number;
  readonly layerOffset: number;
  readonly length: number;
}
