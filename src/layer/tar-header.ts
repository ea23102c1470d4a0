import type { ByteString } from "../base/byte-string.js";

/**
 * The fields of one 512-byte tar header block, read in place: no function here copies or throws, and numbers that are none are NaN.
 *
 * | at  | bytes | field    | at  | bytes | field                                            |
 * |-----|-------|----------|-----|-------|--------------------------------------------------|
 * | 0   | 100   | name     | 257 | 6 + 2 | magic and version                                |
 * | 100 | 8     | mode     | 329 | 8     | devmajor                                         |
 * | 108 | 8     | uid      | 337 | 8     | devminor                                         |
 * | 116 | 8     | gid      | 345 | 155   | prefix (ustar), 131 of it (star), atime ... (GNU) |
 * | 124 | 12    | size     | 386 | 96    | four sparse entries (GNU)                        |
 * | 136 | 12    | mtime    | 482 | 1     | more sparse entries follow (GNU)                 |
 * | 148 | 8     | checksum | 483 | 12    | size with holes (GNU)                            |
 * | 156 | 1     | typeflag | 508 | 4     | `tar\0` (star)                                   |
 * | 157 | 100   | linkname |     |       |                                                  |
 *
 * Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar's tar.h; where they leave a choice, Go's archive/tar, because
 * what docker, containerd and umoci accept is what images look like.
 */

export const TAR_BLOCK_BYTES = 512;

export const TarFormat = { v7: 0, ustar: 1, gnu: 2, star: 3 } as const;
export type TarFormat = (typeof TarFormat)[keyof typeof TarFormat];

/** What a block is where a header should be; `other` has a checksum that does not match. */
export const BlockKind = { header: 0, zeros: 1, other: 2 } as const;
export type BlockKind = (typeof BlockKind)[keyof typeof BlockKind];

/** `view` is of the same bytes as `block`: the sum over every block is the greater part of reading a tar, and words are faster. */
export function blockKind(block: Buffer, view: DataView, at: number): BlockKind {
  const end = at + TAR_BLOCK_BYTES;
  // Two 16-bit sums in one integer, of the even and the odd bytes: at most 256 x 255 each, so that none reaches the other.
  let lanes = 0;
  for (let i = at; i < end; i += 4) {
    const word = view.getInt32(i, true);
    lanes = (lanes + (word & 0x00ff00ff) + ((word >>> 8) & 0x00ff00ff)) | 0;
  }
  let sum = (lanes & 0xffff) + (lanes >>> 16);
  if (sum === 0) return BlockKind.zeros;
  // The checksum was made with spaces in its own field.
  const field = at + 148;
  for (let i = field; i < field + 8; i++) sum += 0x20 - block[i]!;
  const stored = octalNumber(block, field, 8);
  if (stored === sum) return BlockKind.header;
  // Some old tars (SunOS, early HP-UX) summed signed chars.
  for (let i = at; i < end; i++) if (block[i]! > 127 && (i < field || i >= field + 8)) sum -= 256;
  return stored === sum ? BlockKind.header : BlockKind.other;
}

/** A view for blockKind. */
export function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function headerFormat(block: Buffer, at: number): TarFormat {
  const magic = at + 257;
  // "ustar"
  if (block.readUInt32BE(magic) !== 0x75737461 || block[magic + 4] !== 0x72) return TarFormat.v7;
  if (block[magic + 5] === 0) {
    return block.readUInt32BE(at + 508) === 0x74617200 ? TarFormat.star : TarFormat.ustar;
  }
  // "ustar", two spaces, NUL
  const gnu = block[magic + 5] === 0x20 && block[magic + 6] === 0x20 && block[magic + 7] === 0;
  return gnu ? TarFormat.gnu : TarFormat.v7;
}

const joined = Buffer.alloc(155 + 1 + 100);

/** The member's path: name, and where the format has one, prefix and `/` before it. */
export function headerPath(block: Buffer, at: number, format: TarFormat): ByteString {
  const prefix = at + 345;
  const prefixBytes = prefixFieldBytes(block, at, format);
  const prefixLength = prefixBytes === 0 ? 0 : textLength(block, prefix, prefixBytes);
  if (prefixLength === 0) return headerText(block, at, 100);
  const nameLength = textLength(block, at, 100);
  block.copy(joined, 0, prefix, prefix + prefixLength);
  joined[prefixLength] = 0x2f;
  block.copy(joined, prefixLength + 1, at, at + nameLength);
  return joined.toString("latin1", 0, prefixLength + 1 + nameLength) as ByteString;
}

function prefixFieldBytes(block: Buffer, at: number, format: TarFormat): number {
  switch (format) {
    case TarFormat.ustar:
      return 155;
    case TarFormat.star:
      return 131;
    case TarFormat.gnu: {
      // GNU has times here. Go's writer before 1.8 put a ustar prefix under GNU's magic (golang.org/issue/12594): such bytes are no
      // numbers. Layers that old docker versions made have it.
      const times =
        !Number.isNaN(headerNumber(block, at + 345, 12)) && !Number.isNaN(headerNumber(block, at + 357, 12));
      return times ? 0 : 155;
    }
    default:
      return 0;
  }
}

/** The bytes of a field up to its first NUL. */
export function headerText(block: Buffer, at: number, width: number): ByteString {
  const length = textLength(block, at, width);
  return (length === 0 ? "" : block.toString("latin1", at, at + length)) as ByteString;
}

function textLength(block: Buffer, at: number, width: number): number {
  let length = 0;
  while (length < width && block[at + length] !== 0) length++;
  return length;
}

/** A number field: octal text, or base-256 where its top bit is set. NaN for anything else and beyond 2^53. */
export function headerNumber(block: Buffer, at: number, width: number): number {
  return (block[at]! & 0x80) === 0 ? octalNumber(block, at, width) : base256Number(block, at, width);
}

/** Octal digits between spaces and NULs; an empty field is 0. What stands behind the first space or NUL is ignored, as by GNU tar. */
function octalNumber(block: Buffer, at: number, width: number): number {
  const end = at + width;
  let i = at;
  while (i < end && (block[i] === 0x20 || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - 0x30;
    if (digit >= 0 && digit < 8) value = value * 8 + digit;
    else return block[i] === 0x20 || block[i] === 0 ? value : Number.NaN;
  }
  return value;
}

/** Big-endian two's complement; the first bit only marks the form, the second is the sign. */
function base256Number(block: Buffer, at: number, width: number): number {
  const negative = (block[at]! & 0x40) !== 0;
  const invert = negative ? 0xff : 0;
  let value = (block[at]! ^ invert) & 0x7f;
  for (let i = at + 1; i < at + width; i++) {
    value = value * 256 + (block[i]! ^ invert);
    if (value > Number.MAX_SAFE_INTEGER) return Number.NaN;
  }
  return negative ? -value - 1 : value;
}
