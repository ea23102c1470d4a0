/**
 * Changes archives behind the reader's back. Offsets are those of FORMAT.md, written once more and not taken from src/archive, so
 * that writer and reader cannot be wrong in the same way unnoticed.
 */
import { crc32 } from "node:zlib";

const sectionNumbers = {
  identity: 1,
  manifest: 2,
  config: 3,
  layers: 4,
  spans: 5,
  windows: 6,
  inodes: 7,
  dirents: 8,
  names: 9,
  extents: 10,
  xattrs: 11,
  xattrValues: 12,
  startSpans: 64,
} as const;
export type SectionLabel = keyof typeof sectionNumbers;
export const sectionLabels = Object.keys(sectionNumbers) as SectionLabel[];

export interface Placed {
  readonly offset: number;
  readonly length: number;
}

/** The optional sections are the last ones. */
export function tableEntryAt(section: SectionLabel): number {
  return 64 + sectionLabels.indexOf(section) * 32;
}

function labelsOf(archive: Buffer): readonly SectionLabel[] {
  return sectionLabels.slice(0, archive.readUInt32LE(12));
}

export function placeOf(archive: Buffer, section: SectionLabel): Placed {
  const at = tableEntryAt(section);
  return {
    offset: Number(archive.readBigUInt64LE(at + 8)),
    length: Number(archive.readBigUInt64LE(at + 16)),
  };
}

export function sectionBytes(archive: Buffer, section: SectionLabel): Buffer {
  const { offset, length } = placeOf(archive, section);
  return archive.subarray(offset, offset + length);
}

/** Makes all CRCs right again, so that only the other rules can find a change. In place. */
export function reseal(archive: Buffer): Buffer {
  for (const section of labelsOf(archive)) {
    archive.writeUInt32LE(crc32(sectionBytes(archive, section)), tableEntryAt(section) + 28);
  }
  return resealHeader(archive);
}

export function resealHeader(archive: Buffer): Buffer {
  const end = 64 + archive.readUInt32LE(12) * 32;
  archive.writeUInt32LE(0, 24);
  archive.writeUInt32LE(crc32(archive.subarray(0, end)), 24);
  return archive;
}

const padded = (length: number) => Math.ceil(length / 64) * 64;

/** The archive with other bytes in some sections (of any length), and header, table and CRCs to fit. */
export function withSections(archive: Buffer, changed: Partial<Record<SectionLabel, Uint8Array>>): Buffer {
  const sections = labelsOf(archive).map((label) => ({
    label,
    bytes: changed[label] ?? sectionBytes(archive, label),
  }));
  return joined(
    sections.map(({ label, bytes }) => ({
      type: sectionNumbers[label],
      flags: archive.readUInt32LE(tableEntryAt(label) + 4),
      recordBytes: archive.readUInt32LE(tableEntryAt(label) + 24),
      bytes,
    })),
  );
}

export interface RawSection {
  readonly type: number;
  readonly flags: number;
  readonly recordBytes: number;
  readonly bytes: Uint8Array;
}

export function rawSections(archive: Buffer): RawSection[] {
  return labelsOf(archive).map((label) => ({
    type: sectionNumbers[label],
    flags: archive.readUInt32LE(tableEntryAt(label) + 4),
    recordBytes: archive.readUInt32LE(tableEntryAt(label) + 24),
    bytes: sectionBytes(archive, label),
  }));
}

/** An archive of these sections, in this order. */
export function joined(sections: readonly RawSection[]): Buffer {
  const head = Buffer.alloc(padded(64 + sections.length * 32));
  let offset = head.length;
  const pieces: Uint8Array[] = [head];
  sections.forEach(({ type, flags, recordBytes, bytes }, i) => {
    const at = 64 + i * 32;
    head.writeUInt32LE(type, at);
    head.writeUInt32LE(flags, at + 4);
    head.writeBigUInt64LE(BigInt(offset), at + 8);
    head.writeBigUInt64LE(BigInt(bytes.length), at + 16);
    head.writeUInt32LE(recordBytes, at + 24);
    head.writeUInt32LE(crc32(bytes), at + 28);
    pieces.push(bytes, Buffer.alloc(padded(bytes.length) - bytes.length));
    offset += padded(bytes.length);
  });
  head.write("SKIMARC\n", 0, "latin1");
  head.writeUInt32LE(2, 8);
  head.writeUInt32LE(sections.length, 12);
  head.writeBigUInt64LE(BigInt(offset), 16);
  return resealHeader(Buffer.concat(pieces));
}
