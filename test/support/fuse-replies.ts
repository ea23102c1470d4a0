/**
 * Replies of the FUSE kernel protocol, decoded as a kernel would; the other half of fuse-protocol.ts, which passes all of this on.
 */

/** Bytes of fuse_out_header. */
export const replyHeaderBytes = 16;

export interface Reply {
  /** What the header says of the whole length. */
  readonly length: number;
  /** 0, or an errno below zero. Of a message that answers nothing (`unique` 0) its code, e.g. `notifyResend`. */
  readonly error: number;
  readonly unique: bigint;
  readonly body: Buffer;
}

/** FUSE_NOTIFY_RESEND. */
export const notifyResend = 7;

/** fuse_out_header: 0 u32 len, 4 i32 error, 8 u64 unique. Throws where the packet is shorter than that, or not as long as it says. */
export function decodeReply(packet: Uint8Array): Reply {
  const bytes = bufferOf(packet);
  if (bytes.length < replyHeaderBytes) throw new Error(`a reply of ${bytes.length} bytes has no header`);
  const length = bytes.readUInt32LE(0);
  if (length !== bytes.length) throw new Error(`a reply of ${bytes.length} bytes says it has ${length}`);
  return {
    length,
    error: bytes.readInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    body: bytes.subarray(replyHeaderBytes),
  };
}

export interface Attributes {
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  /** Seconds; negative ones as the kernel takes them. */
  readonly atimeSec: bigint;
  readonly mtimeSec: bigint;
  readonly ctimeSec: bigint;
  readonly atimeNsec: number;
  readonly mtimeNsec: number;
  readonly ctimeNsec: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blockBytes: number;
}

/**
 * fuse_attr, 88 bytes: 0 u64 ino, 8 u64 size, 16 u64 blocks, 24 u64 atime, 32 u64 mtime, 40 u64 ctime, 48 u32 atimensec, 52 u32 mtimensec,
 * 56 u32 ctimensec, 60 u32 mode, 64 u32 nlink, 68 u32 uid, 72 u32 gid, 76 u32 rdev, 80 u32 blksize, 84 u32 flags.
 */
function decodeAttributes(bytes: Buffer): Attributes {
  return {
    ino: bytes.readBigUInt64LE(0),
    size: bytes.readBigUInt64LE(8),
    blocks: bytes.readBigUInt64LE(16),
    atimeSec: bytes.readBigInt64LE(24),
    mtimeSec: bytes.readBigInt64LE(32),
    ctimeSec: bytes.readBigInt64LE(40),
    atimeNsec: bytes.readUInt32LE(48),
    mtimeNsec: bytes.readUInt32LE(52),
    ctimeNsec: bytes.readUInt32LE(56),
    mode: bytes.readUInt32LE(60),
    nlink: bytes.readUInt32LE(64),
    uid: bytes.readUInt32LE(68),
    gid: bytes.readUInt32LE(72),
    rdev: bytes.readUInt32LE(76),
    blockBytes: bytes.readUInt32LE(80),
  };
}

export interface Entry {
  /** 0: there is no such name, and the kernel may remember it. */
  readonly nodeid: bigint;
  readonly generation: bigint;
  readonly entryValidSec: bigint;
  readonly attrValidSec: bigint;
  readonly attributes: Attributes;
}

export const entryBytes = 128;

/**
 * fuse_entry_out, the reply to LOOKUP: 0 u64 nodeid, 8 u64 generation, 16 u64 entry_valid, 24 u64 attr_valid, 32 u32 entry_valid_nsec,
 * 36 u32 attr_valid_nsec, 40 fuse_attr.
 */
export function decodeEntry(body: Uint8Array): Entry {
  const bytes = bufferOf(body);
  return {
    nodeid: bytes.readBigUInt64LE(0),
    generation: bytes.readBigUInt64LE(8),
    entryValidSec: bytes.readBigUInt64LE(16),
    attrValidSec: bytes.readBigUInt64LE(24),
    attributes: decodeAttributes(bytes.subarray(40)),
  };
}

export const attrReplyBytes = 104;

/** fuse_attr_out, the reply to GETATTR: 0 u64 attr_valid, 8 u32 attr_valid_nsec, 12 u32 dummy, 16 fuse_attr. */
export function decodeAttr(body: Uint8Array): { attrValidSec: bigint; attributes: Attributes } {
  const bytes = bufferOf(body);
  return { attrValidSec: bytes.readBigUInt64LE(0), attributes: decodeAttributes(bytes.subarray(16)) };
}

export interface DirectoryEntry {
  readonly ino: bigint;
  /** The offset to go on from behind this entry. */
  readonly next: bigint;
  /** DT_DIR 4, DT_REG 8, ... */
  readonly type: number;
  readonly name: Buffer;
  /** READDIRPLUS only; its nodeid is 0 where the kernel is to look nothing up ("." and ".."). */
  readonly entry?: Entry;
}

/**
 * The entries of a reply to READDIR or READDIRPLUS (`plus`). Throws where they do not fill the body exactly.
 *
 * fuse_dirent: 0 u64 ino, 8 u64 off, 16 u32 namelen, 20 u32 type, 24 the name; padded with zeros to a multiple of 8. fuse_direntplus is a
 * fuse_entry_out before that.
 */
export function decodeDirectory(body: Uint8Array, plus: boolean): DirectoryEntry[] {
  const bytes = bufferOf(body);
  const prefix = plus ? entryBytes : 0;
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + prefix + 24 > bytes.length) throw new Error(`half an entry at ${at} of ${bytes.length}`);
    const dirent = bytes.subarray(at + prefix);
    const nameEnd = 24 + dirent.readUInt32LE(16);
    const end = at + Math.ceil((prefix + nameEnd) / 8) * 8;
    if (end > bytes.length) throw new Error(`the entry at ${at} ends at ${end} of ${bytes.length}`);
    if (bytes.subarray(at + prefix + nameEnd, end).some((byte) => byte !== 0))
      throw new Error(`the entry at ${at} is not padded with zeros`);
    entries.push({
      ino: dirent.readBigUInt64LE(0),
      next: dirent.readBigUInt64LE(8),
      type: dirent.readUInt32LE(20),
      name: dirent.subarray(24, nameEnd),
      ...(plus ? { entry: decodeEntry(bytes.subarray(at)) } : {}),
    });
    at = end;
  }
  return entries;
}

export const statfsReplyBytes = 80;

/**
 * fuse_statfs_out: 0 u64 blocks, 8 u64 bfree, 16 u64 bavail, 24 u64 files, 32 u64 ffree, 40 u32 bsize, 44 u32 namelen, 48 u32 frsize,
 * 52 u32 padding and spare[6].
 */
export function decodeStatfs(body: Uint8Array) {
  const bytes = bufferOf(body);
  return {
    blocks: bytes.readBigUInt64LE(0),
    blocksFree: bytes.readBigUInt64LE(8),
    blocksAvailable: bytes.readBigUInt64LE(16),
    files: bytes.readBigUInt64LE(24),
    filesFree: bytes.readBigUInt64LE(32),
    blockBytes: bytes.readUInt32LE(40),
    nameBytesMax: bytes.readUInt32LE(44),
    fragmentBytes: bytes.readUInt32LE(48),
  };
}

export const initReplyBytes = 64;

/**
 * fuse_init_out: 0 u32 major, 4 u32 minor, 8 u32 max_readahead, 12 u32 flags, 16 u16 max_background, 18 u16 congestion_threshold, 20 u32 max_write,
 * 24 u32 time_gran, 28 u16 max_pages, 30 u16 map_alignment, 32 u32 flags2, 36 u32 max_stack_depth, then unused.
 */
export function decodeInit(body: Uint8Array) {
  const bytes = bufferOf(body);
  return {
    major: bytes.readUInt32LE(0),
    minor: bytes.readUInt32LE(4),
    maxReadahead: bytes.readUInt32LE(8),
    flags: BigInt(bytes.readUInt32LE(12)) | (BigInt(bytes.readUInt32LE(32)) << 32n),
    maxBackground: bytes.readUInt16LE(16),
    congestionThreshold: bytes.readUInt16LE(18),
    maxWrite: bytes.readUInt32LE(20),
    timeGranularity: bytes.readUInt32LE(24),
    maxPages: bytes.readUInt16LE(28),
  };
}

/** fuse_getxattr_out, the reply to GETXATTR and LISTXATTR with size 0: 0 u32 size, 4 u32 padding. */
export const decodeXattrSize = (body: Uint8Array): number => bufferOf(body).readUInt32LE(0);

/** The names of a reply to LISTXATTR: each with a NUL. */
export function decodeXattrNames(body: Uint8Array): Buffer[] {
  const bytes = bufferOf(body);
  const names: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    if (end < 0) throw new Error(`the name at ${at} does not end`);
    names.push(bytes.subarray(at, end));
    at = end + 1;
  }
  return names;
}

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
