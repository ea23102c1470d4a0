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
   * `spanBytes` is 1 KiB to 16 MiB; or 0: no spans are noted, which takes less than half the time.
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
  /** Gives the next piece of the compressed bytes, from the first span's compressedStart on. It must stay as it is until the decoder has used it up. Does not block. */
  decoderWrite(decoder: DecoderHandle, compressed: Uint8Array): void;
  /** False where `decoderNext` would only ask for more input, or has given the last span. Does not block. */
  decoderReady(decoder: DecoderHandle): boolean;
  /**
   * Resolves to the uncompressed bytes of the next span once they are complete and have its digest, to null when more input is
   * needed, and to null after the last span. Thread pool. Rejects with SPAN_CORRUPT where the bytes do not inflate to the span, and
   * SPAN_DIGEST where they do but have another digest.
   */
  decoderNext(decoder: DecoderHandle): Promise<Uint8Array | null>;
  /**
   * decoderNext that writes the span to the cache as well, as span `span` of its layer, where it counts as verified then. Resolves to true instead of the bytes
   * where that has been done, unless they are to be kept; `verified` (cacheVerified) tells whether it was. Where the disk does not take the span, the
   * bytes are all there is.
   */
  decoderNextStored(
    decoder: DecoderHandle,
    cache: CacheHandle,
    span: number,
    keep: boolean,
  ): Promise<Uint8Array | true | null>;

  // -- fuse/: a mount served by threads of our own ------------------------------------------------------------------

  /**
   * The tree of an archive over its sections (FORMAT.md), which are kept and not copied: they must not change any more. They should
   * have been checked, but nothing in them makes native code read outside. `fileBytes` is the size of all files, for statfs.
   */
  treeOpen(
    inodes: Uint8Array,
    dirents: Uint8Array,
    names: Uint8Array,
    extents: Uint8Array,
    xattrs: Uint8Array,
    xattrValues: Uint8Array,
    layers: Uint8Array,
    spans: Uint8Array,
    fileBytes: number,
  ): TreeHandle;

  /**
   * A layer's files in the disk cache (data, presence map) for native readers, with offset, length and sha256 of each span from its record.
   * Both descriptors are copied; the caller's may be closed at any time. Throws what fcntl(2) says.
   */
  cacheOpen(dataFd: number, mapFd: number, spanRecords: Uint8Array): CacheHandle;
  /**
   * One byte a span: 1 where its bytes in these files are known to be right. The same memory for every caller and for native threads, which
   * set and read it at any time: use Atomics.
   */
  cacheVerified(cache: CacheHandle): Uint8Array;
  /** One byte a span: 1 where it was read since that byte was last set to 0. Shared memory as above. */
  cacheUsed(cache: CacheHandle): Uint8Array;
  /**
   * Compares spans with their digests before they are read, in this order. Passed over are those that are verified, not in the files, or another thread's at the moment;
   * damaged ones are left for their readers to find. Thread pool.
   */
  cacheVerifyAhead(cache: CacheHandle, spans: Uint32Array): Promise<void>;
  /** Lets go of the files: closed at once, or when the sessions that they are attached to let go of them. The handle is of no use any more. */
  cacheClose(cache: CacheHandle): void;

  /**
   * Serves a FUSE connection on `fd` (/dev/fuse, mounted or about to be; or a socket of packets, in tests), which is the session's from now on
   * (and is closed where this throws). `threads`
   * (1 to 64) are started. `trace` writes a line to standard error for each operation. `initResult` is empty, and FUSE_INIT awaited; or what
   * `sessionInitResult` said of a session that served the same connection before; or 16 zeros, where FUSE_INIT has been answered and nobody knows what was agreed. Any
   * request but FUSE_INIT tells a session that awaits it the same. `label` names the session where its state is
   * printed, and in lines of a trace.
   * `onEvents` gets pairs of a SessionEvent and a number, until SessionEvent.ended, after which no thread is left; until then the session keeps
   * the event loop alive. Throws what pthread_create says.
   */
  sessionStart(
    fd: number,
    tree: TreeHandle,
    threads: number,
    trace: boolean,
    initResult: Uint8Array,
    label: string,
    onEvents: (events: Uint32Array) => void,
  ): SessionHandle;
  /** From now on reads look into these files for spans of the layer (its position in the archive) first; null: into none. Does not block. */
  sessionAttach(session: SessionHandle, layer: number, cache: CacheHandle | null): void;
  /** The verified bytes of a span that was wanted. Copied to the reads that wait for it; does not block otherwise. Too few: those get EIO. */
  sessionLanded(session: SessionHandle, span: number, bytes: Uint8Array): void;
  /** A span that was wanted cannot be had: reads that wait for it get `errno` (positive). Does not block. */
  sessionFailed(session: SessionHandle, span: number, errno: number): void;
  /**
   * Asks the kernel to send again what a server before this one has read and not answered; FUSE_INIT itself may be among it. False where it cannot (before
   * Linux 6.9): those requests wait until the connection ends.
   */
  sessionResend(session: SessionHandle): boolean;
  /**
   * Lets go of a connection whose descriptor others have open as well: no more requests are read, those that have been are answered, and SessionEvent.ended
   * comes when there are none left, or after `limitMs` without the rest, which are left for sessionResend of a session after this one. Spans are wanted and must be
   * brought until then. Where nobody else has the descriptor, the connection ends. Does not block. Throws what pthread_create says.
   */
  sessionRelease(session: SessionHandle, limitMs: number): void;
  /** What was agreed at FUSE_INIT, for a session that comes after this one: a few opaque bytes; empty before. */
  sessionInitResult(session: SessionHandle): Uint8Array;
  /** Requests so far by opcode (SESSION_OPCODES numbers; the last one counts all beyond), then the counts named by `sessionCounterNames`. */
  sessionCounters(session: SessionHandle): Float64Array;
  /** A few lines: threads, waiting requests, spans in flight. */
  sessionDescribe(session: SessionHandle): string;
  /** The kernel's name of an opcode in lower case, e.g. "readdirplus"; "unknown" where there is none. */
  operationName(opcode: number): string;
  /** Takes a signal over: it makes a thread write the state of all sessions to standard error, also while JavaScript stands still. */
  printSessionsOn(signal: number): void;

  // -- unpack/: trees of files -------------------------------------------------------------------------------------

  /**
   * A writer of a tree below the directory `root`. `sources` are files that contents come from, `staging` a directory of staged files or -1. Without
   * `keepOwners` nothing is chowned. Descriptors are copied. Throws what fcntl(2) says.
   */
  treeWriterOpen(
    root: number,
    sources: readonly number[],
    staging: number,
    keepOwners: boolean,
  ): TreeWriterHandle;
  /**
   * Obeys instructions (native/unpack/instructions.h). Nothing they name is outside the root, no symlink is followed, and what is made must not
   * be there. Several calls may be under way on one writer. Thread pool. Rejects with the errno of the first failure, its `path` counted
   * from the root; what was made by then stays.
   */
  treeWriterRun(writer: TreeWriterHandle, instructions: Uint8Array): Promise<TreeWritten>;
  /** Closes the writer's descriptors, which would keep filesystems from being unmounted until it is collected. No call is under way. */
  treeWriterClose(writer: TreeWriterHandle): void;
  /**
   * Writes parts of `bytes` into files of a directory that are named by numbers and made where they are missing. `ranges` are four numbers each: number of
   * the file, offset in it, offset in `bytes`, length. Resolves to the CRC-32 of these bytes that goes on from `crc`. Thread pool.
   */
  stageBytes(directory: number, bytes: Uint8Array, ranges: Float64Array, crc: number): Promise<number>;
  /** renameat2(2), RENAME_EXCHANGE: two names of one filesystem change places, as one step. EINVAL where the filesystem cannot. */
  exchangeNames(one: Uint8Array, other: Uint8Array): void;

  // -- posix/: what node:fs lacks -----------------------------------------------------------------------------------

  /** mount(2). Thread pool. `data` longer than a page minus one is refused with EINVAL: the kernel would cut it silently. */
  mount(source: string, target: string, type: string, flags: number, data: string): Promise<void>;
  /** umount2(2). Thread pool: dropping the last reference to a FUSE mount talks to its server. */
  umount(target: string, flags: number): Promise<void>;
  /** socketpair(2), AF_UNIX: two connected descriptors, of packets (SOCK_SEQPACKET) or a stream. Both are closed in programs that are started. */
  socketPair(packets: boolean): [number, number];
  /** dup2(2): `target` becomes another name of `descriptor`'s file, whatever it was before. Stays open over execve(2). */
  duplicateOnto(descriptor: number, target: number): void;
  /** recvmsg(2): the descriptor that comes through a socket; null where its other end was closed, or sent none. Thread pool. */
  receiveDescriptor(socket: number): Promise<number | null>;
  /** fcntl(2), F_DUPFD_CLOEXEC: another descriptor of the same file, closed in programs that are started. Does not block. */
  duplicate(descriptor: number): number;
  /** poll(2): true where the descriptor is in error. One of /dev/fuse is before it is mounted, and after its mount has ended. Does not block. */
  isDisconnected(descriptor: number): boolean;
  /**
   * connect(2) to a Unix socket of packets (SOCK_SEQPACKET) or datagrams; a leading "@" names an abstract one. At most 107 bytes. Does not block:
   * throws EAGAIN where nobody accepts. The descriptor is the caller's.
   */
  socketConnect(path: string, datagrams: boolean): number;
  /** sendmsg(2): one packet, with a copy of `descriptor` unless it is -1. Does not block: throws EAGAIN where the other side does not take it, EPIPE where it is gone. */
  socketSend(socket: number, packet: Uint8Array, descriptor: number): void;
  /**
   * Takes a socket over and calls `onPacket` with each packet that comes (at most 64 KiB of it) and the descriptor that came with it, the callee's to
   * close, or -1; with null, and never again, when the other side has closed it. The event loop watches it, no thread does; it does not keep the process.
   */
  socketWatch(
    socket: number,
    onPacket: (packet: Uint8Array | null, descriptor: number) => void,
  ): SocketHandle;
  /** Closes a watched socket: `onPacket` is not called any more. Again: does nothing. */
  socketClose(socket: SocketHandle): void;
  /** flock(2) with LOCK_NB; false where somebody else holds it. Does not block. */
  tryLock(fd: number, exclusive: boolean): boolean;
  /**
   * fallocate(2), FALLOC_FL_PUNCH_HOLE: these bytes become zeros, and whole blocks of them free; the file keeps its length. False where the
   * filesystem cannot. Thread pool: it may wait for the disk.
   */
  punchHole(fd: number, offset: number, length: number): Promise<boolean>;
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
/** What decodes spans. */
export type DecoderCalls = Pick<
  NativeBinding,
  "decoderOpen" | "decoderWrite" | "decoderReady" | "decoderNext" | "decoderNextStored"
>;

export interface DecoderHandle {
  readonly [handleBrand]: "decoder";
}

export interface TreeHandle {
  readonly [handleBrand]: "tree";
}
export interface CacheHandle {
  readonly [handleBrand]: "cache";
}
export interface SessionHandle {
  readonly [handleBrand]: "session";
}
export interface SocketHandle {
  readonly [handleBrand]: "socket";
}
export interface TreeWriterHandle {
  readonly [handleBrand]: "tree writer";
}

/** What a list of instructions came to. */
export interface TreeWritten {
  /** Bytes of files that share their blocks with the source. */
  readonly clonedBytes: number;
  /** That the kernel copied, and that were read and written. */
  readonly copiedBytes: number;
  readonly writtenBytes: number;
  /**
   * What could not be made: "d" and a path for a device (EPERM), "x", a path and a name for an extended attribute that the filesystem cannot hold.
   * Path and name end with NUL.
   */
  readonly skipped: Uint8Array;
}

/** What a session tells; the number that goes with each. */
export const SessionEvent = {
  /** Index of a span that reads wait for: to be answered by sessionLanded or sessionFailed. May be told again meanwhile. */
  spanWanted: 0,
  /** Index of a span that nobody waits for any more. */
  spanUnwanted: 1,
  /** FUSE_INIT is answered; the protocol's minor version. */
  initialized: 2,
  /** The connection is gone; 0. */
  ended: 3,
  /** The kernel's protocol is too old; its minor version. The connection fails everything. */
  refused: 4,
  /** Index of a span that a read wants bytes of, for the first time in this session; told before it is wanted. */
  spanTouched: 5,
} as const;

/** Opcodes that are counted each for itself. */
export const SESSION_OPCODES = 64;

/** Behind the opcodes in `sessionCounters`. */
export const sessionCounterNames = [
  /** READ requests answered with bytes, and how many bytes. */
  "reads",
  "readBytes",
  /** Of these, those that waited for a span. */
  "waitedReads",
  /** Pieces of reads, one a span, that came from the cache without waiting. */
  "cachedSpans",
  /** Spans in the cache that were compared with their digest by native threads, and were right. */
  "verifiedSpans",
  /** READ requests answered with an error; those whose reader went away are counted apart. */
  "failedReads",
  "interruptedReads",
] as const;

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
