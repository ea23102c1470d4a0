import type { ByteString } from "../base/byte-string.js";
import type { ExtendedHeaders } from "./extended-headers.js";
import { paxSparseKind } from "./gnu-sparse.js";
import type { EntryType, LayerEntry, LayerExtent } from "./layer-index.js";
import { headerFormat, headerNumber, headerPath, headerText, TarFormat } from "./tar-header.js";
import { checkLinkTarget, checkPath, shownName } from "./tar-names.js";
import type { TarPosition } from "./tar-position.js";

/** A header block with the extended headers before it, understood. */
export interface TarMember {
  /** Without extents. Undefined for a member that is no file of any kind and is left out. */
  readonly entry: EntryDraft | undefined;
  /** Bytes that follow the header, padding not counted. */
  readonly storedBytes: number;
  /** A hard link's size: bytes that *may* follow. */
  readonly linkBytes: number;
  /** Where the sparse map is: in the header and behind it, in the pax records, or in front of the data. */
  readonly sparse: "header" | "records" | "data" | undefined;
  /** What is odd about it. */
  readonly warning: string | undefined;
}

export type EntryDraft = { -readonly [Key in keyof LayerEntry]: LayerEntry[Key] };

/** Linux has 12 bits for the major number of a device and 20 for the minor. */
const DEVICE_MAJOR_MAX = 0xfff;
const DEVICE_MINOR_MAX = 0xfffff;
/** The one above, (uid_t)-1, means "leave it" to chown and "invalid" to the kernel. */
const ID_MAX = 0xfffffffe;

const noExtents: readonly LayerExtent[] = Object.freeze([]);

/** Members that are no files and may be left out. */
const leftOutTypes: Readonly<Record<string, string>> = {
  V: "a GNU volume label",
  M: "a piece of a file from another volume",
  N: "a list of old GNU long names",
  A: "a Solaris ACL",
  E: "a Solaris attribute file",
  I: "star's inode metadata",
};

/** Understands the header block at `at`. Throws LAYER_CORRUPT, LIMIT_EXCEEDED. */
export function readMember(
  block: Buffer,
  at: number,
  headers: ExtendedHeaders,
  position: TarPosition,
): TarMember {
  const fields = headers.fields;
  const format = headerFormat(block, at);
  const path = fields?.sparse?.name ?? headers.longPath ?? fields?.path ?? headerPath(block, at, format);
  const typeflag = block[at + 156]!;
  const sizeField = fields?.bytes ?? field(block, at + 124, 12, "size", position);
  if (sizeField < 0) throw position.corrupt(`${shownName(path)} has a negative size`);

  const leftOut = leftOutTypes[String.fromCharCode(typeflag)];
  if (leftOut !== undefined) {
    return {
      entry: undefined,
      storedBytes: sizeField,
      linkBytes: 0,
      sparse: undefined,
      warning: `${shownName(path)} is ${leftOut} and was left out`,
    };
  }
  checkPath(path, position);
  const type = entryType(typeflag, path, format);
  const isFile = type === undefined || type === "file";
  const isLink = type === "symlink" || type === "hardlink";
  const isDevice = type === "character" || type === "block";
  const link = isLink
    ? (headers.longLink ?? fields?.linkPath ?? headerText(block, at + 157, 100))
    : ("" as ByteString);
  if (isLink) checkLinkTarget(path, type, link, position);

  const paxSparse = fields?.sparse && paxSparseKind(fields.sparse);
  const sparse = typeflag === 0x53 ? "header" : paxSparse;
  if (sparse !== undefined && !isFile) {
    throw position.corrupt(`${shownName(path)} is a ${type} with a map of sparse data`);
  }
  if (sparse === "header" && format !== TarFormat.gnu) {
    throw position.corrupt(`${shownName(path)} is a sparse file, but its header is not GNU's`);
  }
  const hasPaxTime = fields?.mtimeSec !== undefined;
  return {
    entry: {
      path,
      type: type ?? "file",
      mode: field(block, at + 100, 8, "mode", position) & 0o7777,
      uid: id(fields?.uid ?? headerNumber(block, at + 108, 8), "uid", position),
      gid: id(fields?.gid ?? headerNumber(block, at + 116, 8), "gid", position),
      fileBytes: isFile ? sizeField : 0,
      mtimeSec: hasPaxTime ? fields.mtimeSec! : field(block, at + 136, 12, "mtime", position),
      mtimeNsec: hasPaxTime ? fields.mtimeNsec : 0,
      linkTarget: link,
      deviceMajor: isDevice ? device(block, at + 329, DEVICE_MAJOR_MAX, path, position) : 0,
      deviceMinor: isDevice ? device(block, at + 337, DEVICE_MINOR_MAX, path, position) : 0,
      xattrs: headers.xattrs(position),
      extents: noExtents,
    },
    // GNU's D is a directory that carries a list of names. Other kinds have no bytes, whatever their size field says.
    storedBytes: isFile || typeflag === 0x44 ? sizeField : 0,
    linkBytes: type === "hardlink" ? sizeField : 0,
    sparse,
    warning:
      type === undefined
        ? `${shownName(path)} is of the unknown type ${JSON.stringify(String.fromCharCode(typeflag))} and taken for a file`
        : undefined,
  };
}

/** Undefined for a type that nobody knows. */
function entryType(typeflag: number, path: ByteString, format: TarFormat): EntryType | undefined {
  switch (typeflag) {
    case 0x30: // 0
      // v7 had neither typeflags for directories nor another place to say it; later formats have.
      return format === TarFormat.v7 && path.endsWith("/") ? "directory" : "file";
    case 0x00:
      return path.endsWith("/") ? "directory" : "file";
    case 0x37: // 7, contiguous
    case 0x53: // S, GNU sparse
      return "file";
    case 0x31:
      return "hardlink";
    case 0x32:
      return "symlink";
    case 0x33:
      return "character";
    case 0x34:
      return "block";
    case 0x35:
    case 0x44: // D, GNU directory with a list of names
      return "directory";
    case 0x36:
      return "fifo";
    default:
      return undefined;
  }
}

function field(block: Buffer, at: number, width: number, name: string, position: TarPosition): number {
  const value = headerNumber(block, at, width);
  if (Number.isNaN(value)) throw position.corrupt(`a header whose ${name} is not a number`);
  return value;
}

function id(value: number, name: string, position: TarPosition): number {
  // Old tars write the ids of nobody as negative; the kernel takes the same 32 bits.
  const unsigned = value < 0 && value >= -0x80000000 ? value >>> 0 : value;
  if (!(unsigned >= 0 && unsigned <= ID_MAX)) {
    throw position.corrupt(`a header whose ${name} is none that Linux has`);
  }
  return unsigned;
}

function device(block: Buffer, at: number, largest: number, path: ByteString, position: TarPosition): number {
  const value = headerNumber(block, at, 8);
  if (!(value >= 0 && value <= largest)) {
    throw position.corrupt(`${shownName(path)} has a device number that Linux does not have`);
  }
  return value;
}
