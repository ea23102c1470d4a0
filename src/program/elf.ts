/**
 * ELF objects, as far as starting one goes: what interprets it, which libraries it needs, where its tables are.
 *
 * Reads a few small pieces (the headers, the dynamic section, one string for each name) and trusts nothing: every count is bounded, every offset
 * compared with the file. Source: elf(5), the System V gABI; the limits are those of the kernel (fs/binfmt_elf.c).
 */

import type { ByteRange } from "../base/byte-range.js";
import { type ByteString, byteStringOf } from "../base/byte-string.js";

export interface ElfObject {
  readonly bits: 32 | 64;
  readonly littleEndian: boolean;
  /** e_machine: 62 x86-64, 183 aarch64. */
  readonly machine: number;
  /** e_type: 2 executable, 3 shared object or position independent executable. */
  readonly type: number;
  /** PT_INTERP: the dynamic loader; undefined for libraries, and for programs that need none. */
  readonly interpreter: ByteString | undefined;
  /** Undefined for static programs. */
  readonly dynamic: ElfDynamic | undefined;
  readonly segments: readonly ElfSegment[];
  /** Go's linker made it: there is a note of its. */
  readonly isGo: boolean;
  /** Where in the file execution begins; undefined where no segment has it. */
  readonly entryOffset: number | undefined;
}

/** A program header whose bytes are in the file. */
export interface ElfSegment {
  /** p_type: 1 PT_LOAD, 2 PT_DYNAMIC, 3 PT_INTERP, 0x6474e550 PT_GNU_EH_FRAME. */
  readonly type: number;
  /** p_flags: 1 execute, 2 write, 4 read. */
  readonly flags: number;
  /** In the file. */
  readonly start: number;
  readonly end: number;
  readonly address: number;
}

export interface ElfDynamic {
  readonly needed: readonly ByteString[];
  readonly soname: ByteString | undefined;
  readonly rpath: ByteString | undefined;
  readonly runpath: ByteString | undefined;
  /** DF_1_NODEFLIB: neither the cache nor the default directories are searched. */
  readonly noDefaultDirectories: boolean;
  /** File ranges of tables that the loader goes through: relocations, as far as their sizes are known. */
  readonly relocations: readonly ByteRange[];
  /** Where symbols, strings, hash and version tables begin in the file. */
  readonly tables: readonly number[];
  /** The string table. */
  readonly strings: ByteRange | undefined;
  /** DT_VERNEED and DT_VERDEF: see symbol-versions.ts. */
  readonly versionsNeeded: VersionTable | undefined;
  readonly versionsDefined: VersionTable | undefined;
}

export interface VersionTable {
  /** In the file. */
  readonly start: number;
  readonly records: number;
}

/** Reads a piece of one file: as many bytes as there are, up to `length`. Undefined: so much may not be read. */
export type PieceReader = (offset: number, length: number) => Promise<Buffer | undefined>;

/** Not an ELF object, or one that the kernel and a loader would refuse. */
export interface NoElf {
  /**
   * "other": it does not begin as ELF does. "truncated": the kernel maps what the file does not have. "unloadable": the kernel starts it, and its loader cannot read its
   * dynamic section. "unread": the reader did not give a piece of it.
   */
  readonly kind: "other" | "damaged" | "truncated" | "unloadable" | "unread";
  readonly found: string;
}

export const segmentTypes = { load: 1, dynamic: 2, interpreter: 3, note: 4, unwinding: 0x6474e550 } as const;
export const segmentFlags = { execute: 1, write: 2 } as const;

/** A page: mostly all headers of an object are in it. */
const headBytes = 4096;
/** Of the kernel: ELF_MIN_ALIGN-independent bound of load_elf_phdrs. */
const programHeadersBytesMax = 65536;
const pathBytesMax = 4096;
/** A real dynamic section has some 30 entries and one for each library. */
const dynamicBytesMax = 65536;
const neededMax = 1024;
/** Names that are read one by one: those of most objects lie in the piece that is read first. */
const separateNamesMax = 8;
const namesBytesMax = 65536;

const tags = {
  end: 0,
  needed: 1,
  hash: 4,
  strings: 5,
  symbols: 6,
  rela: 7,
  relaBytes: 8,
  stringsBytes: 10,
  soname: 14,
  rpath: 15,
  rel: 17,
  relBytes: 18,
  jumpRelocationsBytes: 2,
  jumpRelocations: 23,
  runpath: 29,
  relr: 36,
  relrBytes: 35,
  flags1: 0x6ffffffb,
  gnuHash: 0x6ffffef5,
  versions: 0x6ffffff0,
  versionsDefined: 0x6ffffffc,
  versionsDefinedCount: 0x6ffffffd,
  versionsNeeded: 0x6ffffffe,
  versionsNeededCount: 0x6fffffff,
} as const;
const DF_1_NODEFLIB = 0x800;
const noteHeaderBytes = 12;
/** Name of the note with the build ID (cmd/link/internal/ld/elf.go). */
const goName = Buffer.from("Go\0\0", "latin1");

/** Reads the object of `fileBytes` bytes that `read` gives pieces of. Rejects only as `read` does. */
export async function readElf(read: PieceReader, fileBytes: number): Promise<ElfObject | NoElf> {
  const head = await read(0, Math.min(fileBytes, headBytes));
  if (!head) return unread;
  if (head.length < 16 || head.readUInt32BE(0) !== 0x7f454c46)
    return { kind: "other", found: "it does not begin as an ELF object does" };
  try {
    return await new ElfReading(read, fileBytes, head).object();
  } catch (error) {
    if (error instanceof UnloadableElf) return { kind: "unloadable", found: error.message };
    if (error instanceof TruncatedElf) return { kind: "truncated", found: error.message };
    if (error instanceof DamagedElf) return { kind: "damaged", found: error.message };
    if (error instanceof UnreadElf) return unread;
    throw error;
  }
}

export function isElf(read: ElfObject | NoElf): read is ElfObject {
  return "bits" in read;
}

class DamagedElf extends Error {}
class TruncatedElf extends DamagedElf {}
class UnloadableElf extends DamagedElf {}
class UnreadElf extends Error {}
const unread: NoElf = { kind: "unread", found: "it would take too much to read" };

type Layout = Readonly<Record<"headerBytes" | "programHeaderBytes" | "wordBytes", number>>;

class ElfReading {
  readonly #read: PieceReader;
  readonly #fileBytes: number;
  readonly #head: Buffer;
  readonly #is64: boolean;
  readonly #littleEndian: boolean;
  readonly #layout: Layout;
  #names: { readonly start: number; readonly bytes: Buffer } | undefined;

  constructor(read: PieceReader, fileBytes: number, head: Buffer) {
    this.#read = read;
    this.#fileBytes = fileBytes;
    this.#head = head;
    const [bits, order] = [head[4], head[5]];
    if (bits !== 1 && bits !== 2) throw new DamagedElf(`its class is ${bits}, neither 32 nor 64 bits`);
    if (order !== 1 && order !== 2) throw new DamagedElf(`its byte order is ${order}`);
    this.#is64 = bits === 2;
    this.#littleEndian = order === 1;
    this.#layout = this.#is64
      ? { headerBytes: 64, programHeaderBytes: 56, wordBytes: 8 }
      : { headerBytes: 52, programHeaderBytes: 32, wordBytes: 4 };
    if (head.length < this.#layout.headerBytes) throw new DamagedElf("it ends within its header");
  }

  async object(): Promise<ElfObject> {
    const segments = await this.#segments();
    const interpreter = segments.find(({ type }) => type === segmentTypes.interpreter);
    const dynamic = segments.find(({ type }) => type === segmentTypes.dynamic);
    const entry = this.#word(this.#head, 24);
    return {
      bits: this.#is64 ? 64 : 32,
      littleEndian: this.#littleEndian,
      type: this.#u16(this.#head, 16),
      machine: this.#u16(this.#head, 18),
      interpreter: interpreter && (await this.#interpreter(interpreter)),
      dynamic:
        dynamic &&
        (await this.#dynamic(dynamic, segments).catch((error: unknown) => {
          throw error instanceof DamagedElf ? new UnloadableElf(error.message) : error;
        })),
      segments,
      isGo: segments.some((segment) => segment.type === segmentTypes.note && this.#hasGoNote(segment)),
      entryOffset: offsetOf(entry, segments),
    };
  }

  // Elf64_Ehdr: e_entry 24, e_phoff 32, e_phentsize 54, e_phnum 56.   Elf32_Ehdr: e_entry 24, e_phoff 28, e_phentsize 42, e_phnum 44.
  async #segments(): Promise<ElfSegment[]> {
    const { programHeaderBytes } = this.#layout;
    const start = this.#word(this.#head, this.#is64 ? 32 : 28);
    const recordBytes = this.#u16(this.#head, this.#is64 ? 54 : 42);
    const count = this.#u16(this.#head, this.#is64 ? 56 : 44);
    if (count === 0) return [];
    if (recordBytes !== programHeaderBytes)
      throw new DamagedElf(`its program headers have ${recordBytes} bytes, not ${programHeaderBytes}`);
    const length = count * recordBytes;
    if (length > programHeadersBytesMax) throw new DamagedElf(`it has ${count} program headers`);
    const bytes = await this.#piece(start, length, "its program headers");
    const segments: ElfSegment[] = [];
    for (let at = 0; at < length; at += recordBytes) {
      const segment = this.#segment(bytes, at);
      if (segment) segments.push(segment);
    }
    return segments;
  }

  // Elf64_Phdr: p_type 0, p_flags 4, p_offset 8, p_vaddr 16, p_filesz 32.   Elf32_Phdr: p_type 0, p_offset 4, p_vaddr 8, p_filesz 16, p_flags 24.
  #segment(bytes: Buffer, at: number): ElfSegment | undefined {
    const start = this.#word(bytes, at + (this.#is64 ? 8 : 4));
    const fileBytes = this.#word(bytes, at + (this.#is64 ? 32 : 16));
    const type = this.#u32(bytes, at);
    // What has no bytes in the file (PT_GNU_STACK) may have any offset.
    if (fileBytes === 0) return undefined;
    if (start + fileBytes > this.#fileBytes)
      throw new TruncatedElf(`a segment ends at ${start + fileBytes}, and the file at ${this.#fileBytes}`);
    const address = this.#word(bytes, at + (this.#is64 ? 16 : 8));
    return {
      type,
      flags: this.#u32(bytes, at + (this.#is64 ? 4 : 24)),
      start,
      end: start + fileBytes,
      address,
    };
  }

  // Elf32_Nhdr and Elf64_Nhdr: n_namesz 0, n_descsz 4, n_type 8, then name and description, each padded to 4 bytes.
  /** Notes that are not among the first bytes of the file, where linkers put them, are not looked at. */
  #hasGoNote({ start, end }: ElfSegment): boolean {
    for (let at = start; at + noteHeaderBytes + goName.length <= Math.min(end, this.#head.length); ) {
      const nameBytes = this.#u32(this.#head, at);
      const name = this.#head.subarray(at + noteHeaderBytes, at + noteHeaderBytes + goName.length);
      if (nameBytes === goName.length && goName.equals(name)) return true;
      at += noteHeaderBytes + aligned(nameBytes) + aligned(this.#u32(this.#head, at + 4));
    }
    return false;
  }

  async #interpreter({ start, end }: ElfSegment): Promise<ByteString> {
    const length = end - start;
    if (length < 2 || length > pathBytesMax)
      throw new DamagedElf(`the name of its interpreter has ${length} bytes`);
    const bytes = await this.#piece(start, length, "the name of its interpreter");
    if (bytes.at(-1) !== 0) throw new DamagedElf("the name of its interpreter does not end");
    return byteStringOf(bytes.subarray(0, bytes.indexOf(0)));
  }

  async #dynamic(segment: ElfSegment, segments: readonly ElfSegment[]): Promise<ElfDynamic> {
    const { wordBytes } = this.#layout;
    const length = segment.end - segment.start;
    if (length > dynamicBytesMax) throw new DamagedElf(`its dynamic section has ${length} bytes`);
    const bytes = await this.#piece(segment.start, length, "its dynamic section");
    const values = new Map<number, number>();
    const needed: number[] = [];
    for (let at = 0; at + 2 * wordBytes <= length; at += 2 * wordBytes) {
      const tag = this.#word(bytes, at);
      const value = this.#word(bytes, at + wordBytes);
      if (tag === tags.end) break;
      if (tag !== tags.needed) values.set(tag, value);
      else if (needed.push(value) > neededMax)
        throw new DamagedElf(`it needs more than ${neededMax} libraries`);
    }
    const place = (tag: number) => {
      const address = values.get(tag);
      return address === undefined ? undefined : offsetOf(address, segments);
    };
    const name = async (tag: number) => {
      const at = values.get(tag);
      return at === undefined
        ? undefined
        : await this.#name(at, place(tags.strings), values.get(tags.stringsBytes));
    };
    const versions = (table: number, count: number): VersionTable | undefined => {
      const start = place(table);
      return start === undefined ? undefined : { start, records: values.get(count) ?? 0 };
    };
    const strings = place(tags.strings);
    if (strings !== undefined && needed.length > separateNamesMax) await this.#readNames(strings, needed);
    const names: ByteString[] = [];
    for (const at of needed)
      names.push(await this.#name(at, place(tags.strings), values.get(tags.stringsBytes)));
    const relocations = (
      [
        [tags.rela, tags.relaBytes],
        [tags.rel, tags.relBytes],
        [tags.relr, tags.relrBytes],
        [tags.jumpRelocations, tags.jumpRelocationsBytes],
      ] as const
    ).flatMap(([table, size]) => {
      const start = place(table);
      return start === undefined
        ? []
        : [{ start, end: Math.min(start + (values.get(size) ?? 0), this.#fileBytes) }];
    });
    return {
      needed: names,
      soname: await name(tags.soname),
      rpath: await name(tags.rpath),
      runpath: await name(tags.runpath),
      noDefaultDirectories: ((values.get(tags.flags1) ?? 0) & DF_1_NODEFLIB) !== 0,
      relocations,
      tables: [tags.hash, tags.gnuHash, tags.symbols, tags.strings, tags.versions].flatMap(
        (tag) => place(tag) ?? [],
      ),
      strings: strings === undefined ? undefined : this.#within(strings, values.get(tags.stringsBytes) ?? 0),
      versionsNeeded: versions(tags.versionsNeeded, tags.versionsNeededCount),
      versionsDefined: versions(tags.versionsDefined, tags.versionsDefinedCount),
    };
  }

  /** Names beside each other at once, where they do not lie all over a large table. */
  async #readNames(table: number, places: readonly number[]): Promise<void> {
    const start = table + Math.min(...places);
    const end = Math.min(table + Math.max(...places) + pathBytesMax, this.#fileBytes);
    if (end > start && end - start <= namesBytesMax)
      this.#names = { start, bytes: await this.#piece(start, end - start, "its names") };
  }

  #within(start: number, length: number): ByteRange {
    return { start, end: Math.min(start + length, this.#fileBytes) };
  }

  /** The string at `at` of the string table. */
  async #name(at: number, table: number | undefined, tableBytes: number | undefined): Promise<ByteString> {
    if (table === undefined || tableBytes === undefined)
      throw new DamagedElf("it names things without a string table");
    if (at >= tableBytes)
      throw new DamagedElf(`a name is at ${at} of its string table of ${tableBytes} bytes`);
    const start = table + at;
    const length = Math.min(tableBytes - at, pathBytesMax, Math.max(0, this.#fileBytes - start));
    const from = this.#names ? start - this.#names.start : -1;
    const bytes =
      from >= 0 && from + length <= this.#names!.bytes.length
        ? this.#names!.bytes.subarray(from, from + length)
        : await this.#piece(start, length, "its names");
    const end = bytes.indexOf(0);
    if (end < 0) throw new DamagedElf("a name in its string table does not end");
    return byteStringOf(bytes.subarray(0, end));
  }

  async #piece(start: number, length: number, what: string): Promise<Buffer> {
    if (start + length > this.#fileBytes)
      throw new DamagedElf(`${what} end at ${start + length}, and the file at ${this.#fileBytes}`);
    if (start + length <= this.#head.length) return this.#head.subarray(start, start + length);
    const bytes = await this.#read(start, length);
    if (!bytes) throw new UnreadElf();
    return bytes;
  }

  #u16(bytes: Buffer, at: number): number {
    return this.#littleEndian ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at);
  }

  #u32(bytes: Buffer, at: number): number {
    return this.#littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  }

  /** An address, offset or size. Not exact from 2^53 on, but then beyond any file. */
  #word(bytes: Buffer, at: number): number {
    if (!this.#is64) return this.#u32(bytes, at);
    return Number(this.#littleEndian ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
  }
}

function aligned(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** Where in the file the byte is that is loaded to `address`. */
function offsetOf(address: number, segments: readonly ElfSegment[]): number | undefined {
  const segment = segments.find(
    ({ type, address: first, start, end }) =>
      type === segmentTypes.load && address >= first && address < first + (end - start),
  );
  return segment && segment.start + (address - segment.address);
}
