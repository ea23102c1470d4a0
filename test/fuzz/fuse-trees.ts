/**
 * Trees to be served: of good archives, of archives that were changed and are accepted, and of sections that nobody has looked at. And files of a disk
 * cache for their layers.
 */
import { createHash } from "node:crypto";
import type { Archive, ServedSections } from "../../src/archive/archive.js";
import { mutatedArchive, openedOr } from "./archive-fuzzer.js";
import { exact } from "./fuzzer.js";
import type { Random } from "./random.js";

export type Sections = { readonly [Name in keyof ServedSections]: Uint8Array };

export interface TreeInput {
  readonly origin: "archive" | "mutated" | "nonsense";
  /** Empty where the sections are of no archive. */
  readonly archive: Buffer;
  readonly sections: Sections;
}

export interface CacheInput {
  readonly layer: number;
  readonly data: Buffer;
  readonly map: Buffer;
  readonly records: Buffer;
}

export function makeTree(random: Random, archives: readonly Buffer[]): TreeInput {
  const good = random.pick(archives);
  const turn = random.below(4);
  if (turn < 2) return nonsense(random, good);
  // About one in ten is accepted.
  for (let tries = turn === 2 ? 20 : 0; tries > 0; tries--) {
    const archive = mutatedArchive(good, random);
    const opened = openedOr(archive);
    if (typeof opened !== "string" && !archive.equals(good)) return treeOf("mutated", archive, opened);
  }
  return treeOf("archive", good, openedOr(good) as Archive);
}

const treeOf = (origin: "archive" | "mutated", archive: Buffer, opened: Archive): TreeInput => ({
  origin,
  archive,
  sections: opened.servedSections(),
});

const sectionNames = [
  "inodes",
  "dirents",
  "names",
  "extents",
  "xattrs",
  "xattrValues",
  "layers",
  "spans",
] as const;

/** Most bytes of a section: every reply made of them must fit into a packet of a socket. */
const nonsenseBytesMax: Readonly<Record<(typeof sectionNames)[number], number>> = {
  inodes: 40 * 64,
  dirents: 60 * 12,
  names: 1000,
  extents: 40 * 32,
  xattrs: 40 * 16,
  xattrValues: 4000,
  layers: 6 * 64,
  spans: 40 * 80,
};

function nonsense(random: Random, good: Buffer): TreeInput {
  const opened = openedOr(good) as Archive;
  const served = opened.servedSections();
  const fromGood = random.oneIn(2);
  const sections = Object.fromEntries(
    sectionNames.map((name) => [
      name,
      fromGood ? disturbed(random, served[name], name) : fieldsOrBytes(random, name),
    ]),
  ) as unknown as Sections;
  return { origin: "nonsense", archive: Buffer.alloc(0), sections };
}

/** A good section with fields overwritten, cut, or as it is. */
function disturbed(random: Random, good: Uint8Array, name: (typeof sectionNames)[number]): Buffer {
  const bytes = Buffer.from(good).subarray(0, nonsenseBytesMax[name]);
  if (random.oneIn(3)) return bytes;
  if (bytes.length < 4 || random.oneIn(12)) return bytes.subarray(0, random.below(bytes.length + 1));
  for (let changes = random.between(1, 8); changes > 0; changes--) {
    const at = random.below(bytes.length / 4) * 4;
    bytes.writeUInt32LE(random.oneIn(2) ? random.telling() : random.below(100), at);
  }
  return bytes;
}

/** Fields that may mean something, or bytes that do not. */
function fieldsOrBytes(random: Random, name: (typeof sectionNames)[number]): Buffer {
  const length = random.oneIn(10) ? 0 : random.below(nonsenseBytesMax[name] + 1);
  if (random.oneIn(3)) return random.bytes(length);
  const bytes = Buffer.alloc(length);
  const field = () => (random.oneIn(3) ? random.telling() : random.below(50));
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(field(), at);
  if (name !== "inodes") return bytes;
  const types = [0o040755, 0o100644, 0o120777, 0o020666, 0o010600];
  for (let at = 0; at + 64 <= length; at += 64)
    if (!random.oneIn(6)) bytes.writeUInt32LE(random.pick(types), at);
  return bytes;
}

/** Exact copies: see `exact`. */
export const exactSections = (sections: Sections): Sections =>
  Object.fromEntries(
    Object.entries(sections).map(([name, bytes]) => [name, exact(bytes)]),
  ) as unknown as Sections;

/** What span `span` holds at `offset`. */
export const contentByte = (span: number, offset: number): number =>
  (span * 37 + offset * 11 + (offset >> 8)) & 255;

export function spanContent(span: number, length: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  for (let offset = 0; offset < length; offset++) bytes[offset] = contentByte(span, offset);
  return bytes;
}

/** Longer spans than this are not made: a mutated record may say 64 MiB. */
export const contentBytesMax = 256 * 1024;

/** Cache files of a layer: some spans present, some damaged; for nonsense, anything. */
export function makeCache(
  random: Random,
  tree: TreeInput,
  archive: Archive | undefined,
): CacheInput | undefined {
  if (!archive) {
    const length = random.below(5000);
    const records = Buffer.from(tree.sections.spans.subarray(0, random.below(41) * 80));
    const whole = records.subarray(0, records.length - (records.length % 80));
    // Lengths are memory that is allocated: a session is given records that were checked.
    for (let at = 0; at < whole.length; at += 80)
      whole.writeUInt32LE(whole.readUInt32LE(at + 8) % 65536, at + 8);
    return {
      layer: random.below(6),
      data: random.bytes(length),
      map: Buffer.alloc(random.below(200), 1),
      records: whole,
    };
  }
  if (archive.layers.length === 0) return undefined;
  const layer = random.below(archive.layers.length);
  const { spanFirst, spanCount, uncompressedBytes } = archive.layers[layer]!;
  if (uncompressedBytes > contentBytesMax) return undefined;
  const records = Buffer.from(archive.spanRecords(spanFirst, spanFirst + spanCount));
  const data = Buffer.alloc(uncompressedBytes);
  const map = Buffer.alloc(64 + spanCount);
  for (let local = 0; local < spanCount; local++) {
    const { uncompressedOffset, uncompressedLength } = archive.span(spanFirst + local);
    const content = spanContent(spanFirst + local, uncompressedLength);
    createHash("sha256")
      .update(content)
      .digest()
      .copy(records, local * 80 + 48);
    if (random.oneIn(4)) continue;
    map[64 + local] = 1;
    data.set(content, uncompressedOffset);
    if (random.oneIn(6)) data[uncompressedOffset + random.below(uncompressedLength)]! ^= 1;
  }
  return { layer, data, map, records };
}
