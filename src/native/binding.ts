/**
 * The whole boundary between TypeScript and C++: every export of native/addon.cc, and nothing else (a test compares the two).
 *
 * Across it go handles, numbers and bytes. Handles are opaque objects that free what they hold when they are collected.
 * Calls that return a Promise run on libuv's thread pool; at most one such call may be under way on a handle. Bytes that are
 * handed in are kept alive until the call has settled and must not be changed before. Failures are thrown (or rejected) as Error
 * with `code`: an errno name such as "ENOENT" from a system call (`syscall` beside it), or one of the codes named at the call.
 * Calls that do not keep to this file throw ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE or ERR_INVALID_STATE: mistakes of ours.
 */
export interface NativeBinding {
  // -- gzip/: one pass over a layer, and random access afterwards ---------------------------------------------------

  /**
   * Opens a scanner for one layer blob. It inflates, hashes, and notes where decompression can restart.
   * `compression` is one of `Compression`; spans are cut at the first restart point at or after `spanBytes` of output, and
   * without a restart point once they hold 4 x `spanBytes` (such a span is decoded from the last restart before it).
   * `spanBytes` is 1 KiB to 16 MiB.
   */
  scannerOpen(compression: number, spanBytes: number): ScannerHandle;
  /** Gives the next piece of the blob. The one before must have been used up (scannerRead gave 0). Does not block. */
  scannerWrite(scanner: ScannerHandle, compressed: Uint8Array): void;
  /**
   * Fills `output` with uncompressed bytes; resolves to how many (0: the piece is used up). Thread pool.
   * Rejects with LAYER_CORRUPT and a sentence for data that does not inflate or whose CRC or length is wrong.
   */
  scannerRead(scanner: ScannerHandle, output: Uint8Array): Promise<number>;
  /**
   * No more pieces: closes the last span. Resolves to the facts of the layer. Thread pool.
   * Rejects with LAYER_CORRUPT where the stream is not at its end. Zeros, and anything that is no gzip header, behind the last
   * member are read and hashed but not inflated (`trailingBytes`).
   */
  scannerFinish(scanner: ScannerHandle): Promise<ScannerResult>;

  /**
   * Opens a decoder for consecutive spans. `spanRecords` holds their records as in the archive (SPAN_RECORD_BYTES each; FORMAT.md);
   * the first one is a restart point, `window` its stored window (empty where it needs none). Both are copied.
   * Throws SPAN_CORRUPT for records that break a rule of FORMAT.md.
   */
  decoderOpen(compression: number, spanRecords: Uint8Array, window: Uint8Array): DecoderHandle;
  /** Gives the next piece of the compressed bytes, from the first span's compressedStart on. The one before is used up. Does not block. */
  decoderWrite(decoder: DecoderHandle, compressed: Uint8Array): void;
  /**
   * Resolves to the uncompressed bytes of the next span once they are complete and have its digest, to null when more input is
   * needed, and to null after the last span. Thread pool. Rejects with SPAN_CORRUPT where the bytes do not inflate to the span, and
   * SPAN_DIGEST where they do but have another digest.
   */
  decoderNext(decoder: DecoderHandle): Promise<Uint8Array | null>;

  // -- posix/: what node:fs lacks -----------------------------------------------------------------------------------

  /** mount(2). Thread pool. `data` longer than a page minus one is refused with EINVAL: the kernel would cut it silently. */
  mount(source: string, target: string, type: string, flags: number, data: string): Promise<void>;
  /** umount2(2). Thread pool: dropping the last reference to a FUSE mount talks to its server. */
  umount(target: string, flags: number): Promise<void>;
  /** flock(2) with LOCK_NB; false where somebody else holds it. Does not block. */
  tryLock(fd: number, exclusive: boolean): boolean;
  /** mknod(2): FIFOs, sockets and devices. `mode` with the type bits. Blocks for a local inode creation. */
  mknod(path: Uint8Array, mode: number, major: number, minor: number): void;
  /** lgetxattr(2): null where there is no such attribute. Blocks; never call it on a mount of this process. */
  getXattr(path: Uint8Array, name: Uint8Array): Uint8Array | null;
  /** lsetxattr(2). Blocks, as above. */
  setXattr(path: Uint8Array, name: Uint8Array, value: Uint8Array): void;
  /** llistxattr(2): names, each ended by NUL. Blocks, as above. */
  listXattr(path: Uint8Array): Uint8Array;
  /** utimensat(2), AT_SYMLINK_NOFOLLOW: node's utimes goes through a double and loses nanoseconds. Seconds may be negative. */
  setTimes(path: Uint8Array, atimeSec: number, atimeNsec: number, mtimeSec: number, mtimeNsec: number): void;
}

/** How the bytes of a layer are stored. The numbers are those of the archive. */
export const Compression = { none: 0, gzip: 1, zstd: 2 } as const;
export type CompressionName = keyof typeof Compression;

/** Bytes of a span record; see FORMAT.md, "spans". */
export const SPAN_RECORD_BYTES = 80;

declare const handleBrand: unique symbol;
export interface ScannerHandle {
  readonly [handleBrand]: "scanner";
}
export interface DecoderHandle {
  readonly [handleBrand]: "decoder";
}

export interface ScannerResult {
  /** sha256 of the blob as stored, 32 bytes. */
  readonly blobSha256: Uint8Array;
  /** sha256 of the whole uncompressed stream, 32 bytes: the diffId. */
  readonly uncompressedSha256: Uint8Array;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  /** Bytes of the blob behind the end of the compressed data. */
  readonly trailingBytes: number;
  /** Span records as in the archive; `windowOffset` counts from the start of `windows`. */
  readonly spanRecords: Uint8Array;
  /** The stored windows, one after the other. */
  readonly windows: Uint8Array;
}
