/**
 * /etc/ld.so.cache: where glibc's loader finds libraries by name. Both layouts of ldconfig: the old one ("ld.so-1.7.0"), the new one
 * ("glibc-ld.so.cache1.1"), and the new one behind the old. Source: glibc, sysdeps/generic/dl-cache.h.
 *
 * Entries for certain processors (hwcap) are left out: which of them a host takes is not a matter of the image, and there is always an entry
 * without. The flags of an entry say which kind of program it is for; whoever looks up compares the object itself, which tells more.
 */
import { type ByteString, byteStringOf } from "../base/byte-string.js";

/** Paths by the name that is looked for, in the order of the cache. */
export type LibraryCache = ReadonlyMap<ByteString, readonly ByteString[]>;

export const libraryCachePath = "/etc/ld.so.cache" as ByteString;
/** A desktop's has 200 KB. */
export const libraryCacheBytesMax = 4 * 1024 * 1024;

const oldMagic = "ld.so-1.7.0";
const newMagic = "glibc-ld.so.cache1.1";
const oldHeaderBytes = 16;
const oldEntryBytes = 12;
const newHeaderBytes = 48;
const newEntryBytes = 24;
const nameBytesMax = 4096;

/** `littleEndian`: the order of the program that reads it; newer caches say theirs. Undefined where it is no cache. */
export function readLibraryCache(bytes: Buffer, littleEndian: boolean): LibraryCache | undefined {
  if (startsWith(bytes, 0, newMagic)) return newCache(bytes, littleEndian);
  if (!startsWith(bytes, 0, oldMagic) || bytes.length < oldHeaderBytes) return undefined;
  const count = u32(bytes, 12, littleEndian);
  const end = oldHeaderBytes + count * oldEntryBytes;
  if (end > bytes.length) return undefined;
  // cache_file_new is aligned as its 64-bit fields want it.
  const behind = Math.ceil(end / 8) * 8;
  if (startsWith(bytes, behind, newMagic)) return newCache(bytes.subarray(behind), littleEndian);
  const found = new Map<ByteString, ByteString[]>();
  for (let at = oldHeaderBytes; at < end; at += oldEntryBytes)
    add(found, bytes.subarray(end), u32(bytes, at + 4, littleEndian), u32(bytes, at + 8, littleEndian));
  return found;
}

// Header, 48 bytes: 0 magic, 20 nlibs u32, 24 len_strings u32, 28 flags u8 (2 little, 3 big endian, 0 unset).
// Entry, 24 bytes: 0 flags i32, 4 key u32, 8 value u32, 12 osversion u32, 16 hwcap u64. Strings count from the header.
function newCache(bytes: Buffer, programLittleEndian: boolean): LibraryCache | undefined {
  if (bytes.length < newHeaderBytes) return undefined;
  const order = bytes[28]! & 3;
  const littleEndian = order === 2 || (order !== 3 && programLittleEndian);
  const count = u32(bytes, 20, littleEndian);
  const end = newHeaderBytes + count * newEntryBytes;
  if (end > bytes.length) return undefined;
  const found = new Map<ByteString, ByteString[]>();
  for (let at = newHeaderBytes; at < end; at += newEntryBytes) {
    if (bytes.readBigUInt64LE(at + 16) !== 0n) continue;
    add(found, bytes, u32(bytes, at + 4, littleEndian), u32(bytes, at + 8, littleEndian));
  }
  return found;
}

function add(found: Map<ByteString, ByteString[]>, strings: Buffer, key: number, value: number): void {
  const name = stringAt(strings, key);
  const path = stringAt(strings, value);
  if (name === undefined || !path?.startsWith("/")) return;
  const paths = found.get(name);
  if (paths) paths.push(path);
  else found.set(name, [path]);
}

function stringAt(bytes: Buffer, at: number): ByteString | undefined {
  if (at >= bytes.length) return undefined;
  const end = bytes.indexOf(0, at);
  return end <= at || end - at > nameBytesMax ? undefined : byteStringOf(bytes.subarray(at, end));
}

function startsWith(bytes: Buffer, at: number, magic: string): boolean {
  return bytes.toString("latin1", at, at + magic.length) === magic;
}

function u32(bytes: Buffer, at: number, littleEndian: boolean): number {
  return littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
}
