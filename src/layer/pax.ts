import { type ByteString, displayText } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import type { TarPosition } from "./tar-position.js";

/**
 * PAX extended headers: `LENGTH KEYWORD=VALUE\n` records that replace fields of the header behind them (`x`) or of all that follow
 * (`g`). Values are bytes, not text: security.capability is a binary struct.
 *
 * Of a keyword that stands twice the last counts; an empty value takes back what an earlier or global record said, and the header
 * block's own field counts again. Not so for xattrs: `SCHILY.xattr.user.a=` is an attribute with an empty value, as GNU tar,
 * libarchive and containerd read it. `LIBARCHIVE.xattr.*` (the same values in base64) is ignored: bsdtar writes SCHILY beside it, and
 * no container tool reads it, so it must not give an image attributes that it has nowhere else.
 *
 * Sources: POSIX.1-2017 pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(5) for SCHILY.
 */
export class PaxFields {
  path: ByteString | undefined;
  linkPath: ByteString | undefined;
  bytes: number | undefined;
  uid: number | undefined;
  gid: number | undefined;
  mtimeSec: number | undefined;
  mtimeNsec = 0;
  /** Only those of these records: `reset` does not take over the global ones, which a member may have by the thousand. */
  xattrs: Map<ByteString, ByteString> | undefined;
  xattrNameBytes = 0;
  xattrValueBytes = 0;
  sparse: PaxSparse | undefined;

  /** Forgets everything but what `global` says; of extended attributes, everything. */
  reset(global: PaxFields | undefined): void {
    this.path = global?.path;
    this.linkPath = global?.linkPath;
    this.bytes = global?.bytes;
    this.uid = global?.uid;
    this.gid = global?.gid;
    this.mtimeSec = global?.mtimeSec;
    this.mtimeNsec = global?.mtimeNsec ?? 0;
    this.xattrs = undefined;
    this.xattrNameBytes = 0;
    this.xattrValueBytes = 0;
    this.sparse = undefined;
  }
}

/** GNU.sparse.* as found; gnu-sparse.ts makes sense of it. */
export interface PaxSparse {
  major: string;
  minor: string;
  name: ByteString | undefined;
  realBytes: number | undefined;
  blockCount: number | undefined;
  /** Offset and length in turn: the map of 0.1, or the records of 0.0 one after the other. */
  map: number[];
}

const XATTR_PREFIX = "SCHILY.xattr.";
const SPARSE_PREFIX = "GNU.sparse.";
/** The longest keyword that means something to us; longer ones are not even made into strings. */
const KEYWORD_BYTES_MAX = XATTR_PREFIX.length + limits.nameBytesMax;
/** `5 a=\n`: shorter records cannot be. */
const RECORD_BYTES_MIN = 5;

/**
 * Reads the records in `bytes` from `start` to `end` into `fields`, which keeps what they do not mention. `global` for a `g` header, in
 * which sparse maps mean nothing. Throws LAYER_CORRUPT for what is not a record, LIMIT_EXCEEDED for names and values no kernel takes.
 */
export function readPaxRecords(
  bytes: Buffer,
  start: number,
  end: number,
  fields: PaxFields,
  global: boolean,
  position: TarPosition,
): void {
  let at = start;
  while (at < end) {
    let recordBytes = 0;
    let i = at;
    for (; i < end && i < at + 8; i++) {
      const digit = bytes[i]! - 0x30;
      if (digit < 0 || digit > 9) break;
      recordBytes = recordBytes * 10 + digit;
    }
    const recordEnd = at + recordBytes;
    if (i === at || bytes[i] !== 0x20 || recordBytes < RECORD_BYTES_MIN || recordEnd > end) {
      throw position.corrupt("a pax record with a wrong length");
    }
    if (bytes[recordEnd - 1] !== 0x0a)
      throw position.corrupt("a pax record that does not end with a newline");
    const keyStart = i + 1;
    let equals = keyStart;
    while (equals < recordEnd - 1 && bytes[equals] !== 0x3d) equals++;
    if (equals === keyStart || equals === recordEnd - 1)
      throw position.corrupt("a pax record without a keyword");
    // A long keyword is unknown whatever it is, unless it is an xattr's: cut it where it is surely too long, and let that be noticed.
    const keyword = bytes.toString("latin1", keyStart, Math.min(equals, keyStart + KEYWORD_BYTES_MAX + 1));
    readRecord(keyword, bytes, equals + 1, recordEnd - 1, fields, global, position);
    at = recordEnd;
  }
}

function readRecord(
  keyword: string,
  bytes: Buffer,
  start: number,
  end: number,
  fields: PaxFields,
  global: boolean,
  position: TarPosition,
): void {
  const empty = start === end;
  switch (keyword) {
    case "path":
      fields.path = empty ? undefined : paxName(keyword, bytes, start, end, position);
      return;
    case "linkpath":
      fields.linkPath = empty ? undefined : paxName(keyword, bytes, start, end, position);
      return;
    case "size":
      fields.bytes = empty ? undefined : paxNumber(keyword, bytes, start, end, position);
      return;
    case "uid":
      fields.uid = empty ? undefined : paxNumber(keyword, bytes, start, end, position);
      return;
    case "gid":
      fields.gid = empty ? undefined : paxNumber(keyword, bytes, start, end, position);
      return;
    case "mtime":
      if (empty) fields.mtimeSec = undefined;
      else readTime(bytes, start, end, fields, position);
      return;
  }
  if (keyword.startsWith(XATTR_PREFIX)) {
    readXattr(keyword.slice(XATTR_PREFIX.length) as ByteString, bytes, start, end, fields, position);
  } else if (!global && keyword.startsWith(SPARSE_PREFIX)) {
    readSparse(keyword, bytes, start, end, fields, position);
  }
}

function readXattr(
  name: ByteString,
  bytes: Buffer,
  start: number,
  end: number,
  fields: PaxFields,
  position: TarPosition,
): void {
  if (name === "" || name.includes("\0"))
    throw position.corrupt("an extended attribute without a proper name");
  if (name.length > limits.nameBytesMax) {
    throw position.limit(
      `an extended attribute whose name is longer than ${limits.nameBytesMax} bytes, which no Linux filesystem takes`,
    );
  }
  if (end - start > limits.xattrValueBytesMax) {
    throw position.limit(
      `extended attribute ${displayText(name)} has ${end - start} bytes, more than the ${limits.xattrValueBytesMax} the kernel takes`,
    );
  }
  fields.xattrs ??= new Map();
  const before = fields.xattrs.get(name);
  if (before === undefined) fields.xattrNameBytes += name.length + 1;
  fields.xattrValueBytes += end - start - (before?.length ?? 0);
  checkXattrNames(fields.xattrNameBytes, position);
  // One header cannot hold more. Global ones add up, and nothing else would bound them before a member comes.
  if (fields.xattrNameBytes + fields.xattrValueBytes > limits.tarHeaderDataBytesMax) {
    throw position.limit(
      `global extended attributes of more than ${limits.tarHeaderDataBytesMax} bytes up to ${displayText(name)}`,
    );
  }
  fields.xattrs.set(name, bytes.toString("latin1", start, end) as ByteString);
}

/** Throws LIMIT_EXCEEDED for more than listxattr can return: all names of a member, each with a NUL behind it. */
export function checkXattrNames(nameBytes: number, position: TarPosition): void {
  if (nameBytes > limits.xattrListBytesMax) {
    throw position.limit(
      `the names of a member's extended attributes have ${nameBytes} bytes or more; the kernel lists ${limits.xattrListBytesMax}`,
    );
  }
}

function readSparse(
  keyword: string,
  bytes: Buffer,
  start: number,
  end: number,
  fields: PaxFields,
  position: TarPosition,
): void {
  fields.sparse ??= {
    major: "",
    minor: "",
    name: undefined,
    realBytes: undefined,
    blockCount: undefined,
    map: [],
  };
  const sparse = fields.sparse;
  switch (keyword) {
    case "GNU.sparse.major":
      sparse.major = bytes.toString("latin1", start, Math.min(end, start + 8));
      return;
    case "GNU.sparse.minor":
      sparse.minor = bytes.toString("latin1", start, Math.min(end, start + 8));
      return;
    case "GNU.sparse.name":
      sparse.name = start === end ? undefined : paxName(keyword, bytes, start, end, position);
      return;
    case "GNU.sparse.size":
    case "GNU.sparse.realsize":
      sparse.realBytes = paxNumber(keyword, bytes, start, end, position);
      return;
    case "GNU.sparse.numblocks":
      sparse.blockCount = paxNumber(keyword, bytes, start, end, position);
      return;
    case "GNU.sparse.offset":
    case "GNU.sparse.numbytes":
      if ((sparse.map.length & 1) !== (keyword === "GNU.sparse.offset" ? 0 : 1)) {
        throw position.corrupt("sparse map records out of turn");
      }
      sparse.map.push(paxNumber(keyword, bytes, start, end, position));
      return;
    case "GNU.sparse.map": {
      sparse.map = [];
      for (let at = start; at < end; ) {
        let comma = at;
        while (comma < end && bytes[comma] !== 0x2c) comma++;
        sparse.map.push(paxNumber(keyword, bytes, at, comma, position));
        at = comma + 1;
      }
      return;
    }
  }
}

function paxName(
  keyword: string,
  bytes: Buffer,
  start: number,
  end: number,
  position: TarPosition,
): ByteString {
  if (end - start > limits.pathBytesMax) {
    throw position.limit(
      `pax record ${keyword} has ${end - start} bytes, more than the ${limits.pathBytesMax} of a path`,
    );
  }
  const name = bytes.toString("latin1", start, end);
  if (name.includes("\0")) throw position.corrupt(`pax record ${keyword} has a NUL in it`);
  return name as ByteString;
}

/** Decimal digits, possibly with a minus before them. */
function paxNumber(
  keyword: string,
  bytes: Buffer,
  start: number,
  end: number,
  position: TarPosition,
): number {
  const negative = bytes[start] === 0x2d && start < end;
  const value = decimalNumber(bytes, negative ? start + 1 : start, end);
  if (Number.isNaN(value)) throw position.corrupt(`pax record ${keyword} is not a number`);
  return negative ? 0 - value : value;
}

/** NaN for no digits, for anything that is no digit, and beyond 2^53. */
export function decimalNumber(bytes: Buffer, start: number, end: number): number {
  if (start >= end) return Number.NaN;
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = bytes[i]! - 0x30;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
    if (value > Number.MAX_SAFE_INTEGER) return Number.NaN;
  }
  return value;
}

/** Seconds with a fraction of any length; digits beyond the nanoseconds are cut off, as by Go. */
function readTime(bytes: Buffer, start: number, end: number, fields: PaxFields, position: TarPosition): void {
  let point = start;
  while (point < end && bytes[point] !== 0x2e) point++;
  const negative = bytes[start] === 0x2d;
  const seconds = decimalNumber(bytes, negative ? start + 1 : start, point);
  let nanoseconds = 0;
  for (let i = point + 1; i < Math.max(end, point + 10); i++) {
    const digit = i < end ? bytes[i]! - 0x30 : 0;
    if (digit < 0 || digit > 9) throw position.corrupt("pax record mtime is not a time");
    if (i < point + 10) nanoseconds = nanoseconds * 10 + digit;
  }
  if (Number.isNaN(seconds)) throw position.corrupt("pax record mtime is not a time");
  // Nanoseconds count forward: -1.5 s is 500,000,000 ns after second -2. (0 - x: never a negative zero.)
  const borrow = negative && nanoseconds > 0;
  fields.mtimeSec = negative ? 0 - seconds - (borrow ? 1 : 0) : seconds;
  fields.mtimeNsec = borrow ? 1_000_000_000 - nanoseconds : nanoseconds;
}
