/**
 * The sections of an archive in memory. Every section but windows is held whole: they are what lookups need, and all of it is
 * checked on opening. Windows, most of the file, stay where they are until one is wanted.
 *
 * A section's bytes come with the padding behind them, and are taken only with the CRC of the section table and a padding of zeros.
 */
import { crc32 } from "node:zlib";
import { type SectionName, sectionNames, viewOf } from "./records.js";
import type { Refuse } from "./refusal.js";
import { aligned, type SectionEntry, type SectionTable } from "./section-table.js";

export interface SectionBytes {
  readonly bytes: Buffer;
  readonly view: DataView;
}

export type LoadedSections = Readonly<
  Record<Exclude<SectionName, "windows" | OptionalSection>, SectionBytes>
> &
  Readonly<Partial<Record<OptionalSection, SectionBytes>>>;

/** Of those that archives need not have. */
type OptionalSection = "startSpans" | "accounts";

/** The windows section, wherever it is. */
export interface WindowSource {
  /** Synchronous. `offset` and `length` are within the section. */
  read(offset: number, length: number): Uint8Array;
  close(): Promise<void>;
}

/** Which bytes of the file to read for a section: of windows only the padding, of all else section and padding. */
export function storedRange(entry: SectionEntry): { offset: number; length: number } {
  const skipped = entry.name === "windows" ? entry.length : 0;
  return { offset: entry.offset + skipped, length: aligned(entry.length) - skipped };
}

/** Checks the bytes of `storedRange` and gives the section's own. Throws ARCHIVE_DAMAGED. */
export function checkedSection(entry: SectionEntry, stored: Buffer, refuse: Refuse): Buffer {
  const name = entry.name ?? `type ${entry.type}`;
  const length = entry.name === "windows" ? 0 : entry.length;
  for (let at = length; at < stored.length; at++) {
    if (stored[at] !== 0) throw refuse(name, undefined, "the padding behind the section is not zero");
  }
  const bytes = stored.subarray(0, length);
  if (entry.name !== "windows" && crc32(bytes) !== entry.crc) {
    throw refuse(name, undefined, "the section's CRC is wrong");
  }
  return bytes;
}

/** Checks the padding between the section table and the first section; `head` holds it. */
export function checkTablePadding(table: SectionTable, head: Uint8Array, refuse: Refuse): void {
  if (head.subarray(table.end, aligned(table.end)).some((byte) => byte !== 0)) {
    throw refuse("section table", undefined, "the padding behind the table is not zero");
  }
}

/** `checked` has every required section; what belongs to unknown types is left out. */
export function loadedSections(checked: ReadonlyMap<SectionName, Buffer>): LoadedSections {
  const loaded: Partial<Record<SectionName, SectionBytes>> = {};
  for (const name of sectionNames) {
    const bytes = checked.get(name);
    if (name !== "windows" && bytes) loaded[name] = { bytes, view: viewOf(bytes) };
  }
  return loaded as LoadedSections;
}
