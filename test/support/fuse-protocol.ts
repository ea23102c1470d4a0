/**
 * The FUSE kernel protocol seen from the kernel: requests as bytes, replies out of bytes.
 *
 * A server that is given one end of a socket of packets instead of /dev/fuse cannot tell the difference: one packet a request, one packet a reply.
 * Offsets and numbers are written here from the kernel's header (include/uapi/linux/fuse.h, protocol 7.45) and not taken from native/fuse, so
 * that both cannot be wrong in the same way. Little endian; all 64-bit fields are bigint.
 *
 * ```ts
 * writeSync(fd, encodeRequest(opcodes.lookup, 2n, rootNode, lookupBody("etc")));
 * const reply = decodeReply(packet); // { unique: 2n, error: 0, body }
 * decodeEntry(reply.body).nodeid;
 * ```
 */

export * from "./fuse-replies.js";

/** enum fuse_opcode. */
export const opcodes = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  setxattr: 21,
  getxattr: 22,
  listxattr: 23,
  removexattr: 24,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  getlk: 31,
  setlk: 32,
  setlkw: 33,
  access: 34,
  create: 35,
  interrupt: 36,
  bmap: 37,
  destroy: 38,
  ioctl: 39,
  poll: 40,
  notifyReply: 41,
  batchForget: 42,
  fallocate: 43,
  readdirplus: 44,
  rename2: 45,
  lseek: 46,
  copyFileRange: 47,
  setupmapping: 48,
  removemapping: 49,
  syncfs: 50,
  tmpfile: 51,
  statx: 52,
} as const;

/** Requests that the kernel expects no reply to. */
export const opcodesWithoutReply: ReadonlySet<number> = new Set([
  opcodes.forget,
  opcodes.batchForget,
  opcodes.interrupt,
  opcodes.notifyReply,
]);

/** FUSE_ROOT_ID. */
export const rootNode = 1n;

/** Flags of INIT, `flags` and `flags2` as one number. */
export const initFlags = {
  asyncRead: 1n << 0n,
  doReaddirplus: 1n << 13n,
  asyncDio: 1n << 15n,
  noOpenSupport: 1n << 17n,
  parallelDirops: 1n << 18n,
  abortError: 1n << 21n,
  maxPages: 1n << 22n,
  cacheSymlinks: 1n << 23n,
  noOpendirSupport: 1n << 24n,
  initExtended: 1n << 30n,
  noExportSupport: 1n << 38n,
  hasResend: 1n << 39n,
  allowIdmap: 1n << 40n,
} as const;

/** Set in the unique of a request that the kernel sends a second time (FUSE_UNIQUE_RESEND). */
export const uniqueResent = 1n << 63n;

/** Bytes of fuse_in_header. */
export const requestHeaderBytes = 40;

/** What may be different in the header of a request. */
export interface RequestFields {
  /** What the header says of the whole length; the truth unless it is to be a lie. */
  readonly length?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly pid?: number;
}

/**
 * A whole request.
 *
 * fuse_in_header: 0 u32 len, 4 u32 opcode, 8 u64 unique, 16 u64 nodeid, 24 u32 uid, 28 u32 gid, 32 u32 pid, 36 u16 total_extlen, 38 u16 padding.
 */
export function encodeRequest(
  opcode: number,
  unique: bigint,
  nodeid: bigint,
  body: Uint8Array = new Uint8Array(0),
  { length = requestHeaderBytes + body.length, uid = 0, gid = 0, pid = 1 }: RequestFields = {},
): Buffer {
  const request = Buffer.alloc(requestHeaderBytes + body.length);
  request.writeUInt32LE(length, 0);
  request.writeUInt32LE(opcode, 4);
  request.writeBigUInt64LE(unique, 8);
  request.writeBigUInt64LE(nodeid, 16);
  request.writeUInt32LE(uid, 24);
  request.writeUInt32LE(gid, 28);
  request.writeUInt32LE(pid, 32);
  request.set(body, requestHeaderBytes);
  return request;
}

/** The fixed fields of a request. */
export function decodeRequestHeader(request: Uint8Array): {
  length: number;
  opcode: number;
  unique: bigint;
  nodeid: bigint;
} {
  const bytes = Buffer.from(request.buffer, request.byteOffset, request.byteLength);
  return {
    length: bytes.readUInt32LE(0),
    opcode: bytes.readUInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    nodeid: bytes.readBigUInt64LE(16),
  };
}

const bytesOfName = (name: string | Uint8Array): Uint8Array =>
  typeof name === "string" ? Buffer.from(name) : name;

/** A name with its NUL. */
export const nameBody = (name: string | Uint8Array): Buffer =>
  Buffer.concat([bytesOfName(name), Buffer.alloc(1)]);

export const lookupBody = nameBody;

export interface InitFields {
  readonly major?: number;
  readonly minor?: number;
  readonly maxReadahead?: number;
  /** Both words together. */
  readonly flags?: bigint;
}

/** All that a kernel of protocol 7.45 offers and this engine knows. */
export const offeredFlags = Object.values(initFlags).reduce((all, flag) => all | flag, 0n);

/**
 * fuse_init_in: 0 u32 major, 4 u32 minor, 8 u32 max_readahead, 12 u32 flags, 16 u32 flags2, 20 u32 unused[11]. 64 bytes; before 7.36 the 16 up to
 * `flags` (`.subarray(0, 16)`).
 */
export function initBody({
  major = 7,
  minor = 45,
  maxReadahead = 131_072,
  flags = offeredFlags,
}: InitFields = {}): Buffer {
  const body = Buffer.alloc(64);
  body.writeUInt32LE(major, 0);
  body.writeUInt32LE(minor, 4);
  body.writeUInt32LE(maxReadahead, 8);
  body.writeUInt32LE(Number(flags & 0xffff_ffffn), 12);
  body.writeUInt32LE(Number(flags >> 32n), 16);
  return body;
}

/**
 * fuse_read_in, of READ, READDIR and READDIRPLUS: 0 u64 fh, 8 u64 offset, 16 u32 size, 20 u32 read_flags, 24 u64 lock_owner, 32 u32 flags,
 * 36 u32 padding.
 */
export function readBody(offset: bigint | number, size: number): Buffer {
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(size, 16);
  return body;
}

/** READDIR and READDIRPLUS: `offset` is the `next` of the last entry that was had, 0 at the start. */
export const readdirBody = readBody;

/** fuse_getattr_in: 0 u32 getattr_flags, 4 u32 dummy, 8 u64 fh. */
export const getattrBody = (): Buffer => Buffer.alloc(16);

/** fuse_getxattr_in (0 u32 size, 4 u32 padding), then the name with its NUL. `size` 0 asks how long the value is. */
export function getxattrBody(name: string | Uint8Array, size: number): Buffer {
  return Buffer.concat([listxattrBody(size), nameBody(name)]);
}

/** fuse_getxattr_in without a name. */
export function listxattrBody(size: number): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt32LE(size, 0);
  return body;
}

/** fuse_interrupt_in: 0 u64 unique of the request that is given up. */
export function interruptBody(unique: bigint): Buffer {
  const body = Buffer.alloc(8);
  body.writeBigUInt64LE(unique, 0);
  return body;
}

/** fuse_forget_in: 0 u64 nlookup. */
export function forgetBody(lookups: bigint): Buffer {
  const body = Buffer.alloc(8);
  body.writeBigUInt64LE(lookups, 0);
  return body;
}

/** fuse_batch_forget_in (0 u32 count, 4 u32 dummy), then fuse_forget_one each (0 u64 nodeid, 8 u64 nlookup). `count` may be a lie. */
export function batchForgetBody(
  nodes: ReadonlyArray<readonly [nodeid: bigint, lookups: bigint]>,
  count = nodes.length,
): Buffer {
  const body = Buffer.alloc(8 + nodes.length * 16);
  body.writeUInt32LE(count, 0);
  nodes.forEach(([nodeid, lookups], i) => {
    body.writeBigUInt64LE(nodeid, 8 + i * 16);
    body.writeBigUInt64LE(lookups, 16 + i * 16);
  });
  return body;
}

/** fuse_open_in, of OPEN and OPENDIR: 0 u32 flags, 4 u32 open_flags. */
export function openBody(flags = 0): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt32LE(flags, 0);
  return body;
}

/** fuse_access_in: 0 u32 mask, 4 u32 padding. */
export function accessBody(mask: number): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt32LE(mask, 0);
  return body;
}

/** fuse_release_in, of RELEASE and RELEASEDIR: 0 u64 fh, 8 u32 flags, 12 u32 release_flags, 16 u64 lock_owner. */
export const releaseBody = (): Buffer => Buffer.alloc(24);

/** fuse_lseek_in: 0 u64 fh, 8 u64 offset, 16 u32 whence, 20 u32 padding. */
export function lseekBody(offset: bigint | number, whence: number): Buffer {
  const body = Buffer.alloc(24);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(whence, 16);
  return body;
}
