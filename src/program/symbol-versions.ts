/**
 * Versions of symbols: which ones an object wants of its libraries, and which ones a library has. A loader refuses a program whose library lacks one
 * ("version `GLIBC_2.34' not found"): it was built for a newer system. Source: the LSB's "Symbol Versioning"; glibc, elf/dl-version.c.
 *
 * Two chains of records, each with a chain of auxiliary records; the links are byte distances from the record itself:
 *
 *   Verneed  0 version u16   2 count u16   4 file u32 (name)     8 aux u32   12 next u32
 *   Vernaux  0 hash u32      4 flags u16   6 other u16           8 name u32  12 next u32
 *   Verdef   0 version u16   2 flags u16   4 index u16  6 count u16   8 hash u32   12 aux u32   16 next u32
 *   Verdaux  0 name u32      4 next u32
 */
import type { ByteRange } from "../base/byte-range.js";
import { type ByteString, byteStringOf } from "../base/byte-string.js";
import type { ElfObject, VersionTable } from "./elf.js";
import type { ImageFile, ProgramImage } from "./program-image.js";

export interface NeededVersion {
  /** Name of the library, as in DT_NEEDED. */
  readonly library: ByteString;
  readonly version: ByteString;
}

/** VER_FLG_WEAK: that it is missing is no fault. */
const weakFlag = 2;
/** Of one object, over all chains. libc.so.6 defines 45 versions in 3 KB, libstdc++ 60. */
const recordsMax = 4096;
const nameBytesMax = 256;
const tableBytesMax = 256 * 1024;
/** libLLVM's names take 3 MB. */
const stringsBytesMax = 4 * 1024 * 1024;

/** None where the object names none, or its tables may not be read or make no sense: a loader is what judges them. */
export async function neededVersions(
  image: ProgramImage,
  file: ImageFile,
  object: ElfObject,
): Promise<NeededVersion[]> {
  const tables = await readTables(image, file, object, object.dynamic?.versionsNeeded);
  const found: NeededVersion[] = [];
  for (const need of tables?.chain(0, tables.records, 16, 12) ?? []) {
    const library = tables!.name(tables!.u32(need + 4));
    for (const aux of tables!.chain(need + tables!.u32(need + 8), tables!.u16(need + 2), 16, 12)) {
      const version = tables!.name(tables!.u32(aux + 8));
      if (library && version && (tables!.u16(aux + 4) & weakFlag) === 0) found.push({ library, version });
    }
  }
  return found;
}

/** Undefined where the library has no versions at all, or they may not be read: then a loader takes any symbol of it. */
export async function definedVersions(
  image: ProgramImage,
  file: ImageFile,
  object: ElfObject,
): Promise<ReadonlySet<ByteString> | undefined> {
  const tables = await readTables(image, file, object, object.dynamic?.versionsDefined);
  if (!tables) return undefined;
  const found = new Set<ByteString>();
  for (const definition of tables.chain(0, tables.records, 20, 16)) {
    // The first auxiliary record names the version itself, further ones what it builds on.
    const [aux] = tables.chain(definition + tables.u32(definition + 12), 1, 8, 4);
    const version = aux === undefined ? undefined : tables.name(tables.u32(aux));
    if (version) found.add(version);
  }
  return found;
}

async function readTables(
  image: ProgramImage,
  file: ImageFile,
  object: ElfObject,
  table: VersionTable | undefined,
): Promise<VersionTables | undefined> {
  const strings = object.dynamic?.strings;
  if (!table || !strings || table.start >= file.bytes) return undefined;
  const records = await image.read(file, table.start, Math.min(tableBytesMax, file.bytes - table.start));
  const names = await readStrings(image, file, strings);
  return records && names ? new VersionTables(records, names, table.records, object.littleEndian) : undefined;
}

async function readStrings(image: ProgramImage, file: ImageFile, { start, end }: ByteRange) {
  return end - start > stringsBytesMax ? undefined : await image.read(file, start, end - start);
}

class VersionTables {
  readonly records: number;
  readonly #bytes: Buffer;
  readonly #strings: Buffer;
  readonly #littleEndian: boolean;
  #recordsLeft = recordsMax;

  constructor(bytes: Buffer, strings: Buffer, records: number, littleEndian: boolean) {
    this.#bytes = bytes;
    this.#strings = strings;
    this.records = records;
    this.#littleEndian = littleEndian;
  }

  /** Places of the records of a chain, as far as they lie in the table. */
  *chain(start: number, count: number, recordBytes: number, nextAt: number): IterableIterator<number> {
    let at = start;
    for (let left = count; left > 0; left--) {
      if (at + recordBytes > this.#bytes.length || this.#recordsLeft-- <= 0) return;
      yield at;
      const next = this.u32(at + nextAt);
      if (next === 0) return;
      at += next;
    }
  }

  u16(at: number): number {
    return this.#littleEndian ? this.#bytes.readUInt16LE(at) : this.#bytes.readUInt16BE(at);
  }

  u32(at: number): number {
    return this.#littleEndian ? this.#bytes.readUInt32LE(at) : this.#bytes.readUInt32BE(at);
  }

  name(at: number): ByteString | undefined {
    const bytes = this.#strings.subarray(at, at + nameBytesMax);
    const end = bytes.indexOf(0);
    return end < 0 ? undefined : byteStringOf(bytes.subarray(0, end));
  }
}
