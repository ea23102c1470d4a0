/**
 * The byte layouts of FORMAT.md in code: where each field of each record is, and how a record is read and written. The writer
 * and the reader share them, so they cannot disagree. Nothing here judges a value; that is done in tree-rules.ts and layer-rules.ts.
 *
 * All integers are little endian, whatever the machine, hence DataView (which V8 compiles to plain loads). 64-bit fields become
 * doubles: exact below 2^53, and the rules refuse what is not.
 */
import type { NodeType } from "../tree/image-tree.js";
import type { ArchiveExtent, InodeRecord, SpanRecord } from "./archive.js";

/** Section types by name, in the order of the file. */
export const sectionTypes = {
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
  accounts: 65,
} as const;
export type SectionName = keyof typeof sectionTypes;
export const sectionNames = Object.keys(sectionTypes) as SectionName[];

/** Sections of the types from here on may be missing, and a reader that does not know them ignores them. */
const optionalTypesFrom = 64;

export function isRequired(name: SectionName): boolean {
  return sectionTypes[name] < optionalTypesFrom;
}

/** Bytes of one record of each section; 1 for plain bytes. */
export const recordBytes: Readonly<Record<SectionName, number>> = {
  identity: 1,
  manifest: 1,
  config: 1,
  layers: 64,
  spans: 80,
  windows: 1,
  inodes: 64,
  dirents: 12,
  names: 1,
  extents: 32,
  xattrs: 16,
  xattrValues: 1,
  startSpans: 4,
  accounts: 1,
};

const twoTo32 = 0x1_0000_0000;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Not exact from 2^53 on, but then never below it either. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * twoTo32;
}

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % twoTo32, true);
  view.setUint32(at + 4, Math.floor(value / twoTo32), true);
}

function readI64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + 4, true) * twoTo32;
}

function writeI64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / twoTo32);
  view.setUint32(at, value - high * twoTo32, true);
  view.setInt32(at + 4, high, true);
}

/** Type bits of a mode (S_IFMT), shifted down by 12, for each type of node: these are also the DT_ numbers of dirents. */
export const direntTypes: Readonly<Record<NodeType, number>> = {
  fifo: 1,
  character: 2,
  directory: 4,
  block: 6,
  file: 8,
  symlink: 10,
};

const nodeTypes: ReadonlyArray<NodeType | undefined> = Array.from({ length: 16 }, (_, bits) =>
  (Object.keys(direntTypes) as NodeType[]).find((type) => direntTypes[type] === bits),
);

/** The type of a mode's type bits; undefined for sockets and numbers that mean nothing. */
export function nodeTypeOf(mode: number): NodeType | undefined {
  return nodeTypes[(mode >>> 12) & 15];
}

// An inode, 64 bytes:
//    0 mode u32       4 uid u32           8 gid u32          12 nlink u32
//   16 size u64                          24 mtimeSec i64
//   32 mtimeNsec u32 36 deviceMajor u32  40 deviceMinor u32  44 parent u32
//   48 first u32     52 count u32        56 xattrFirst u32   60 xattrCount u32

/** Where the fields are that are read without decoding the whole inode. */
export const inodeAt = { mode: 0, nlink: 12, parent: 44, first: 48, count: 52 } as const;

/** The mode's type bits must be those of a node type. */
export function readInode(view: DataView, at: number): InodeRecord {
  const mode = view.getUint32(at, true);
  return {
    type: nodeTypes[(mode >>> 12) & 15]!,
    mode,
    uid: view.getUint32(at + 4, true),
    gid: view.getUint32(at + 8, true),
    nlink: view.getUint32(at + 12, true),
    size: readU64(view, at + 16),
    mtimeSec: readI64(view, at + 24),
    mtimeNsec: view.getUint32(at + 32, true),
    deviceMajor: view.getUint32(at + 36, true),
    deviceMinor: view.getUint32(at + 40, true),
    parent: view.getUint32(at + 44, true),
    first: view.getUint32(at + 48, true),
    count: view.getUint32(at + 52, true),
    xattrFirst: view.getUint32(at + 56, true),
    xattrCount: view.getUint32(at + 60, true),
  };
}

/** `mode` with the type bits. */
export function writeInode(view: DataView, at: number, inode: Omit<InodeRecord, "type">): void {
  view.setUint32(at, inode.mode, true);
  view.setUint32(at + 4, inode.uid, true);
  view.setUint32(at + 8, inode.gid, true);
  view.setUint32(at + 12, inode.nlink, true);
  writeU64(view, at + 16, inode.size);
  writeI64(view, at + 24, inode.mtimeSec);
  view.setUint32(at + 32, inode.mtimeNsec, true);
  view.setUint32(at + 36, inode.deviceMajor, true);
  view.setUint32(at + 40, inode.deviceMinor, true);
  view.setUint32(at + 44, inode.parent, true);
  view.setUint32(at + 48, inode.first, true);
  view.setUint32(at + 52, inode.count, true);
  view.setUint32(at + 56, inode.xattrFirst, true);
  view.setUint32(at + 60, inode.xattrCount, true);
}

// A dirent, 12 bytes:   0 inode u32   4 nameOffset u32   8 nameLength u16   10 type u8   11 reserved

export const direntAt = { inode: 0, nameOffset: 4, nameLength: 8, type: 10, reserved: 11 } as const;

export function writeDirent(
  view: DataView,
  at: number,
  inode: number,
  nameOffset: number,
  nameLength: number,
  type: number,
): void {
  view.setUint32(at, inode, true);
  view.setUint32(at + 4, nameOffset, true);
  view.setUint16(at + 8, nameLength, true);
  view.setUint8(at + 10, type);
  view.setUint8(at + 11, 0);
}

// An extent, 32 bytes:   0 fileOffset u64   8 length u64   16 layerOffset u64   24 layer u32   28 reserved u32

export const extentReservedAt = 28;

export function readExtent(view: DataView, at: number): ArchiveExtent {
  return {
    fileOffset: readU64(view, at),
    length: readU64(view, at + 8),
    layer: view.getUint32(at + 24, true),
    layerOffset: readU64(view, at + 16),
  };
}

export function writeExtent(view: DataView, at: number, extent: ArchiveExtent): void {
  writeU64(view, at, extent.fileOffset);
  writeU64(view, at + 8, extent.length);
  writeU64(view, at + 16, extent.layerOffset);
  view.setUint32(at + 24, extent.layer, true);
  view.setUint32(at + 28, 0, true);
}

// An xattr, 16 bytes:   0 nameOffset u32   4 nameLength u16   6 reserved u16   8 valueOffset u32   12 valueLength u32

export const xattrReservedAt = 6;

/** One xattr of a set: places in names and in xattrValues. */
export interface XattrRecord {
  readonly nameOffset: number;
  readonly nameLength: number;
  readonly valueOffset: number;
  readonly valueLength: number;
}

export function readXattr(view: DataView, at: number): XattrRecord {
  return {
    nameOffset: view.getUint32(at, true),
    nameLength: view.getUint16(at + 4, true),
    valueOffset: view.getUint32(at + 8, true),
    valueLength: view.getUint32(at + 12, true),
  };
}

export function writeXattr(view: DataView, at: number, xattr: XattrRecord): void {
  view.setUint32(at, xattr.nameOffset, true);
  view.setUint16(at + 4, xattr.nameLength, true);
  view.setUint16(at + 6, 0, true);
  view.setUint32(at + 8, xattr.valueOffset, true);
  view.setUint32(at + 12, xattr.valueLength, true);
}

// A layer, 64 bytes:
//    0 digestOffset u32   4 diffIdOffset u32   8 mediaTypeOffset u32
//   12 digestLength u16  14 diffIdLength u16  16 mediaTypeLength u16  18 compression u8  19 reserved u8
//   20 spanFirst u32     24 spanCount u32     28 reserved u32
//   32 compressedBytes u64                    40 uncompressedBytes u64
//   48 reserved, 16 bytes

export interface LayerRecord {
  readonly digestOffset: number;
  readonly diffIdOffset: number;
  readonly mediaTypeOffset: number;
  readonly digestLength: number;
  readonly diffIdLength: number;
  readonly mediaTypeLength: number;
  /** A number of `Compression`. */
  readonly compression: number;
  readonly spanFirst: number;
  readonly spanCount: number;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
}

export function readLayer(view: DataView, at: number): LayerRecord {
  return {
    digestOffset: view.getUint32(at, true),
    diffIdOffset: view.getUint32(at + 4, true),
    mediaTypeOffset: view.getUint32(at + 8, true),
    digestLength: view.getUint16(at + 12, true),
    diffIdLength: view.getUint16(at + 14, true),
    mediaTypeLength: view.getUint16(at + 16, true),
    compression: view.getUint8(at + 18),
    spanFirst: view.getUint32(at + 20, true),
    spanCount: view.getUint32(at + 24, true),
    compressedBytes: readU64(view, at + 32),
    uncompressedBytes: readU64(view, at + 40),
  };
}

/** True where the reserved bytes of a layer record are zero. */
export function layerReservedIsZero(view: DataView, at: number): boolean {
  let bits = view.getUint8(at + 19) | view.getUint32(at + 28, true);
  for (let reserved = 48; reserved < 64; reserved += 4) bits |= view.getUint32(at + reserved, true);
  return bits === 0;
}

/** The record's bytes are zero before. */
export function writeLayer(view: DataView, at: number, layer: LayerRecord): void {
  view.setUint32(at, layer.digestOffset, true);
  view.setUint32(at + 4, layer.diffIdOffset, true);
  view.setUint32(at + 8, layer.mediaTypeOffset, true);
  view.setUint16(at + 12, layer.digestLength, true);
  view.setUint16(at + 14, layer.diffIdLength, true);
  view.setUint16(at + 16, layer.mediaTypeLength, true);
  view.setUint8(at + 18, layer.compression);
  view.setUint32(at + 20, layer.spanFirst, true);
  view.setUint32(at + 24, layer.spanCount, true);
  writeU64(view, at + 32, layer.compressedBytes);
  writeU64(view, at + 40, layer.uncompressedBytes);
}

// A span, 80 bytes (written by the native scanner; only windowOffset is changed afterwards):
//    0 uncompressedOffset u64
//    8 uncompressedLength u32  12 restart u8  13 startBit u8  14 reserved u16
//   16 compressedStart u64     24 compressedEnd u64
//   32 windowOffset u64        40 windowStored u32  44 windowLength u32
//   48 sha256, 32 bytes

export const spanAt = {
  uncompressedOffset: 0,
  restart: 12,
  reserved: 14,
  windowOffset: 32,
  windowStored: 40,
} as const;

/** `bytes` are those of `view`. */
export function readSpan(view: DataView, bytes: Uint8Array, at: number): SpanRecord {
  return {
    uncompressedOffset: readU64(view, at),
    uncompressedLength: view.getUint32(at + 8, true),
    restart: view.getUint8(at + 12),
    startBit: view.getUint8(at + 13),
    compressedStart: readU64(view, at + 16),
    compressedEnd: readU64(view, at + 24),
    windowOffset: readU64(view, at + 32),
    windowStored: view.getUint32(at + 40, true),
    windowLength: view.getUint32(at + 44, true),
    sha256: bytes.subarray(at + 48, at + 80),
  };
}
