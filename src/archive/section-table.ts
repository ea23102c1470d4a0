/**
 * The first bytes of an archive: the header and the section table (FORMAT.md, "File"). The table says where everything is, so
 * its rules come first: sections follow each other without gap up to the end of the file, which bounds every length
 * by bytes that are really there before anything is allocated.
 */
import { crc32 } from "node:zlib";
import { SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import {
  isRequired,
  readU64,
  recordBytes,
  type SectionName,
  sectionNames,
  sectionTypes,
  viewOf,
  writeU64,
} from "./records.js";
import type { Refuse } from "./refusal.js";

export const formatVersion = 2;
export const headerBytes = 64;
const entryBytes = 32;
const sectionsMax = 64;
/** Sections start at cache lines, so that mapped records never straddle one more than they must. */
const alignment = 64;
/** The most that header and table can take. */
export const headBytesMax = headerBytes + sectionsMax * entryBytes;

const magic = Buffer.from("SKIMARC\n", "latin1");
/** Flag of a section that a reader must know to read the archive at all. */
const flagRequired = 1;

export interface SectionEntry {
  readonly type: number;
  /** Undefined for an optional section that this program does not know. */
  readonly name: SectionName | undefined;
  readonly offset: number;
  readonly length: number;
  /** CRC-32 of the section's bytes. */
  readonly crc: number;
}

export interface SectionTable {
  readonly entries: readonly SectionEntry[];
  /** Where the table ends: up to the first section there is padding. */
  readonly end: number;
}

export function aligned(offset: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

// The header, 64 bytes:
//    0 magic 8 bytes   8 version u32   12 sectionCount u32   16 fileBytes u64   24 headerCrc u32   28 reserved 36 bytes
// A table entry, 32 bytes:
//    0 type u32   4 flags u32   8 offset u64   16 length u64   24 recordBytes u32   28 crc u32

/** Header, table and the padding behind it, for sections of these lengths and CRCs in the order of their types. */
export function encodeSectionTable(
  sections: ReadonlyArray<{ readonly name: SectionName; readonly length: number; readonly crc: number }>,
): { bytes: Uint8Array; archiveBytes: number } {
  const end = headerBytes + sections.length * entryBytes;
  const bytes = Buffer.alloc(aligned(end));
  const view = viewOf(bytes);
  let offset = bytes.length;
  sections.forEach(({ name, length, crc }, i) => {
    const at = headerBytes + i * entryBytes;
    view.setUint32(at, sectionTypes[name], true);
    view.setUint32(at + 4, flagsOf(name), true);
    writeU64(view, at + 8, offset);
    writeU64(view, at + 16, length);
    view.setUint32(at + 24, recordBytes[name], true);
    view.setUint32(at + 28, crc, true);
    offset += aligned(length);
  });
  bytes.set(magic, 0);
  view.setUint32(8, formatVersion, true);
  view.setUint32(12, sections.length, true);
  writeU64(view, 16, offset);
  view.setUint32(24, crc32(bytes.subarray(0, end)), true);
  return { bytes, archiveBytes: offset };
}

/**
 * Checks header and table. `head` is the start of the file: all of it, or at least `headBytesMax` bytes; `fileBytes` its true size.
 * Throws ARCHIVE_VERSION, ARCHIVE_DAMAGED.
 */
export function decodeSectionTable(
  head: Uint8Array,
  fileBytes: number,
  label: string,
  refuse: Refuse,
): SectionTable {
  const view = viewOf(head);
  if (head.length < magic.length || !magic.equals(head.subarray(0, magic.length))) {
    throw refuse("header", undefined, `${fileBytes} bytes that do not begin as a skim archive does`);
  }
  if (head.length < headerBytes) {
    throw refuse("header", undefined, `the file ends after ${fileBytes} bytes, within the header`);
  }
  const version = view.getUint32(8, true);
  if (version !== formatVersion) throw otherVersion(label, version);
  const sectionCount = view.getUint32(12, true);
  if (sectionCount < 1 || sectionCount > sectionsMax) {
    throw refuse("header", undefined, `sectionCount is ${sectionCount}, not 1 to ${sectionsMax}`);
  }
  const end = headerBytes + sectionCount * entryBytes;
  if (end > head.length) {
    throw refuse("header", undefined, `the file ends after ${fileBytes} bytes, within the section table`);
  }
  const crc = crcWithoutField(head.subarray(0, end));
  if (view.getUint32(24, true) !== crc) {
    throw refuse("header", undefined, "the CRC of header and section table is wrong");
  }
  for (let at = 28; at < headerBytes; at += 4) {
    if (view.getUint32(at, true) !== 0) throw refuse("header", undefined, "reserved bytes are not zero");
  }
  const statedBytes = readU64(view, 16);
  if (statedBytes !== fileBytes) {
    throw refuse("header", undefined, `the file has ${fileBytes} bytes, the header says ${statedBytes}`);
  }
  return { entries: decodeEntries(view, sectionCount, fileBytes, label, refuse), end };
}

function decodeEntries(
  view: DataView,
  sectionCount: number,
  fileBytes: number,
  label: string,
  refuse: Refuse,
): SectionEntry[] {
  const entries: SectionEntry[] = [];
  let offset = aligned(headerBytes + sectionCount * entryBytes);
  let typeBefore = 0;
  for (let i = 0; i < sectionCount; i++) {
    const at = headerBytes + i * entryBytes;
    const type = view.getUint32(at, true);
    const flags = view.getUint32(at + 4, true);
    const length = readU64(view, at + 16);
    const sectionRecordBytes = view.getUint32(at + 24, true);
    const no = (found: string) => refuse("section table", i, found);
    if (type <= typeBefore) throw no(`type ${type} follows type ${typeBefore}, not in ascending order`);
    typeBefore = type;
    if (flags > flagRequired) throw no(`flags are ${flags}: reserved bits are not zero`);
    const name = sectionNames.find((known) => sectionTypes[known] === type);
    if (name === undefined && flags === flagRequired) {
      throw new SkimError(
        "ARCHIVE_VERSION",
        `archive ${label} cannot be read: it has a section of type ${type}, which this skim does not know and must not ignore; upgrade skim`,
      );
    }
    if (name !== undefined && flags !== flagsOf(name))
      throw no(`section ${name} is ${flags === flagRequired ? "" : "not "}flagged as required`);
    if (readU64(view, at + 8) !== offset) {
      throw no(`offset is ${readU64(view, at + 8)}, but the section must start at ${offset}`);
    }
    if (length >= limits.archiveSectionBytesMax) throw no(`length ${length} is not below 4 GiB`);
    if (offset + aligned(length) > fileBytes) {
      throw no(`offset ${offset} and length ${length} reach beyond the file's ${fileBytes} bytes`);
    }
    if (name !== undefined && sectionRecordBytes !== recordBytes[name]) {
      throw no(`records of ${name} have ${sectionRecordBytes} bytes, not ${recordBytes[name]}`);
    }
    if (sectionRecordBytes === 0 || length % sectionRecordBytes !== 0) {
      throw no(`length ${length} is no multiple of the record size ${sectionRecordBytes}`);
    }
    entries.push({ type, name, offset, length, crc: view.getUint32(at + 28, true) });
    offset += aligned(length);
  }
  if (offset !== fileBytes) {
    throw refuse(
      "section table",
      undefined,
      `sections end at ${offset}, but the file has ${fileBytes} bytes`,
    );
  }
  const missing = sectionNames.find(
    (name) => isRequired(name) && !entries.some((entry) => entry.name === name),
  );
  if (missing !== undefined) throw refuse("section table", undefined, `there is no section ${missing}`);
  return entries;
}

function flagsOf(name: SectionName): number {
  return isRequired(name) ? flagRequired : 0;
}

function otherVersion(label: string, version: number): SkimError {
  const found = `archive ${label} has format version ${version}; this skim reads version ${formatVersion}`;
  return new SkimError(
    "ARCHIVE_VERSION",
    version > formatVersion ? `${found}: upgrade skim` : `${found}: index the image again`,
  );
}

function crcWithoutField(head: Uint8Array): number {
  const copy = Buffer.from(head);
  copy.writeUInt32LE(0, 24);
  return crc32(copy);
}
