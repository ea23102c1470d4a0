/**
 * The rules of FORMAT.md for inodes, dirents, names, extents and xattrs: what makes the records a tree that can be served.
 *
 * One pass over the inodes in their order (with their extents and xattr sets), one over the dirents of the directories. That the ranges
 * of directories, of files and of xattr sets follow each other without gap does three things: every record is looked at exactly
 * once, no count can make the pass longer than the file, and nothing is left that nobody owns. That a directory's number is
 * above its parent's rules out cycles; that each is named exactly once, by its parent, makes everything reachable.
 */
import { limits } from "../base/limits.js";
import type { ArchiveLayer, ArchiveTotals, InodeRecord } from "./archive.js";
import {
  direntAt,
  direntTypes,
  extentReservedAt,
  inodeAt,
  nodeTypeOf,
  readExtent,
  readInode,
  readXattr,
  recordBytes,
  xattrReservedAt,
} from "./records.js";
import type { Refuse } from "./refusal.js";
import type { LoadedSections } from "./section-bytes.js";

/** st_size of every directory; also what the kernel's own filesystems say of a small one. */
export const directoryBytes = 4096;
/** The kernel's dev_t has 12 bits of major and 20 of minor. */
export const deviceMajorMax = 0xfff;
export const deviceMinorMax = 0xfffff;
/** Names longer than this are no xattr names (XATTR_NAME_MAX). */
export const xattrNameBytesMax = 255;
/** 2^32 - 1 is (uid_t)-1, which owns nothing: chown(2) takes it for "leave it as it is". */
export const ownerIdMax = 0xfffffffe;
export const nanosecondsMax = 999_999_999;

/** overlayfs takes these as orders about its own layers. */
export function isOverlayXattr(name: string): boolean {
  return name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.");
}

/** Checks the tree. Throws ARCHIVE_DAMAGED. */
export function checkTree(
  sections: LoadedSections,
  layers: readonly ArchiveLayer[],
  refuse: Refuse,
): ArchiveTotals {
  // Names, targets and xattr names go to the kernel as C strings.
  const nul = sections.names.bytes.indexOf(0);
  if (nul >= 0) throw refuse("names", undefined, `a NUL byte at offset ${nul}`);
  const totals = checkInodes(sections, layers, refuse);
  checkDirents(sections, refuse);
  return totals;
}

function checkInodes(
  sections: LoadedSections,
  layers: readonly ArchiveLayer[],
  refuse: Refuse,
): ArchiveTotals {
  const { bytes, view } = sections.inodes;
  const inodeCount = bytes.length / recordBytes.inodes;
  const direntCount = sections.dirents.bytes.length / recordBytes.dirents;
  const extentCount = sections.extents.bytes.length / recordBytes.extents;
  const namesLength = sections.names.bytes.length;
  if (inodeCount === 0) throw refuse("inodes", undefined, "there is no root");
  const xattrSets = new XattrSets(sections, refuse);
  const typeCounts = new Uint32Array(16);
  let direntEnd = 0;
  let extentEnd = 0;
  let setuidCount = 0;
  let setgidCount = 0;
  let fileBytes = 0;

  for (let i = 0; i < inodeCount; i++) {
    const at = i * recordBytes.inodes;
    if (nodeTypeOf(view.getUint32(at + inodeAt.mode, true)) === undefined) {
      throw refuse("inodes", i, "mode has no type that an image can have");
    }
    const inode = readInode(view, at);
    const fault = inodeFault(inode, i + 1, namesLength);
    if (fault !== undefined) throw refuse("inodes", i, fault);
    if (inode.type === "directory") {
      if (inode.first !== direntEnd) {
        throw refuse("inodes", i, `first is ${inode.first}, but the dirents before end at ${direntEnd}`);
      }
      direntEnd += inode.count;
      if (direntEnd > direntCount)
        throw refuse("inodes", i, `its dirents reach beyond the ${direntCount} there are`);
    } else if (inode.type === "file") {
      if (inode.first !== extentEnd) {
        throw refuse("inodes", i, `first is ${inode.first}, but the extents before end at ${extentEnd}`);
      }
      extentEnd += inode.count;
      if (extentEnd > extentCount)
        throw refuse("inodes", i, `its extents reach beyond the ${extentCount} there are`);
      checkExtents(sections, layers, inode, refuse);
      fileBytes += inode.size;
      if (inode.mode & 0o4000) setuidCount++;
      if (inode.mode & 0o2000) setgidCount++;
    }
    xattrSets.check(inode, i);
    typeCounts[inode.mode >>> 12]!++;
  }
  if (direntEnd !== direntCount) throw refuse("dirents", direntEnd, "belongs to no directory");
  if (extentEnd !== extentCount) throw refuse("extents", extentEnd, "belongs to no file");
  xattrSets.checkEnd();
  return {
    fileCount: typeCounts[direntTypes.file]!,
    directoryCount: typeCounts[direntTypes.directory]!,
    symlinkCount: typeCounts[direntTypes.symlink]!,
    characterCount: typeCounts[direntTypes.character]!,
    blockCount: typeCounts[direntTypes.block]!,
    fifoCount: typeCounts[direntTypes.fifo]!,
    nameCount: direntCount,
    setuidCount,
    setgidCount,
    fileBytes,
  };
}

/** What is wrong with an inode for itself, whatever the other records say. */
function inodeFault(inode: InodeRecord, ino: number, namesLength: number): string | undefined {
  const { type, mode, size, first, count, parent } = inode;
  if (mode > 0xffff) return "mode has bits above the type";
  if (inode.uid > ownerIdMax || inode.gid > ownerIdMax) {
    return `owner ${inode.uid}:${inode.gid} is above ${ownerIdMax}`;
  }
  if (inode.mtimeNsec > nanosecondsMax) return `mtimeNsec is ${inode.mtimeNsec}, not below 1,000,000,000`;
  if (!Number.isSafeInteger(inode.mtimeSec)) return "mtimeSec is not within 2^53 of 0";
  const isDevice = type === "character" || type === "block";
  const majorMax = isDevice ? deviceMajorMax : 0;
  const minorMax = isDevice ? deviceMinorMax : 0;
  if (inode.deviceMajor > majorMax || inode.deviceMinor > minorMax) {
    return `device ${inode.deviceMajor}:${inode.deviceMinor} is above ${majorMax}:${minorMax}`;
  }
  if (inode.nlink === 0) return "nlink is 0";
  if (type === "directory") {
    if (ino === 1 ? parent !== 1 : parent === 0 || parent >= ino) {
      return `parent is ${parent}, which is not below its own number ${ino}${ino === 1 ? " and not 1" : ""}`;
    }
    return size === directoryBytes ? undefined : `size of a directory is ${size}, not ${directoryBytes}`;
  }
  if (ino === 1) return "the root is not a directory";
  if (parent !== 0) return `parent is ${parent}, though it is not a directory`;
  if (type === "file") return Number.isSafeInteger(size) ? undefined : "size is not below 2^53";
  if (type === "symlink") {
    if (count < 1 || count > limits.symlinkBytesMax) {
      return `the target has ${count} bytes, not 1 to ${limits.symlinkBytesMax}`;
    }
    if (size !== count) return `size is ${size}, but the target has ${count} bytes`;
    return first + count <= namesLength ? undefined : "its target reaches beyond the end of names";
  }
  return size === 0 && first === 0 && count === 0
    ? undefined
    : "size, first and count of a device or FIFO are not 0";
}

function checkExtents(
  sections: LoadedSections,
  layers: readonly ArchiveLayer[],
  file: InodeRecord,
  refuse: Refuse,
): void {
  const { view } = sections.extents;
  let fileEnd = 0;
  for (let index = file.first; index < file.first + file.count; index++) {
    const at = index * recordBytes.extents;
    const { fileOffset, length, layer, layerOffset } = readExtent(view, at);
    if (view.getUint32(at + extentReservedAt, true) !== 0) {
      throw refuse("extents", index, "reserved bytes are not zero");
    }
    if (fileOffset < fileEnd)
      throw refuse("extents", index, `fileOffset ${fileOffset} is below the end of the one before`);
    fileEnd = fileOffset + length;
    if (length < 1) throw refuse("extents", index, "length is 0");
    // Sums of numbers above 2^53 are not exact, but still above every size that the other rules let through.
    if (fileEnd > file.size)
      throw refuse("extents", index, `it ends at ${fileEnd}, beyond the file's ${file.size} bytes`);
    const layerBytes = layers[layer]?.uncompressedBytes;
    if (layerBytes === undefined) throw refuse("extents", index, `layer is ${layer} of ${layers.length}`);
    if (layerOffset + length > layerBytes) {
      throw refuse(
        "extents",
        index,
        `it ends at ${layerOffset + length}, beyond the layer's ${layerBytes} bytes`,
      );
    }
  }
}

/** The sets of xattrs in the order of their first use: an inode has none, the next new one, or one that was there before. */
class XattrSets {
  readonly #sections: LoadedSections;
  readonly #refuse: Refuse;
  /** How many xattrs the set has that begins at an index; 0 where none begins. */
  readonly #countAt: Uint32Array;
  #end = 0;

  constructor(sections: LoadedSections, refuse: Refuse) {
    this.#sections = sections;
    this.#refuse = refuse;
    this.#countAt = new Uint32Array(sections.xattrs.bytes.length / recordBytes.xattrs);
  }

  check(inode: InodeRecord, record: number): void {
    const { xattrFirst: first, xattrCount: count } = inode;
    if (count === 0) {
      if (first !== 0) throw this.#refuse("inodes", record, "xattrFirst is not 0 though xattrCount is");
      return;
    }
    if (first < this.#end) {
      if (this.#countAt[first] === count) return;
      throw this.#refuse(
        "inodes",
        record,
        `xattrs ${first} to ${first + count} overlap sets of other bounds`,
      );
    }
    if (first !== this.#end) {
      throw this.#refuse("inodes", record, `xattrFirst is ${first}, but the sets before end at ${this.#end}`);
    }
    if (first + count > this.#countAt.length) {
      throw this.#refuse("inodes", record, `its xattrs reach beyond the ${this.#countAt.length} there are`);
    }
    this.#checkSet(first, count);
    this.#countAt[first] = count;
    this.#end += count;
  }

  #checkSet(first: number, count: number): void {
    const names = this.#sections.names.bytes;
    const { view } = this.#sections.xattrs;
    let nameBefore = "";
    let listBytes = 0;
    for (let index = first; index < first + count; index++) {
      const at = index * recordBytes.xattrs;
      const xattr = readXattr(view, at);
      const no = (found: string) => this.#refuse("xattrs", index, found);
      if (view.getUint16(at + xattrReservedAt, true) !== 0) throw no("reserved bytes are not zero");
      if (xattr.nameLength < 1 || xattr.nameLength > xattrNameBytesMax) {
        throw no(`the name has ${xattr.nameLength} bytes, not 1 to ${xattrNameBytesMax}`);
      }
      const nameEnd = xattr.nameOffset + xattr.nameLength;
      if (nameEnd > names.length) throw no("its name reaches beyond the end of names");
      const name = names.toString("latin1", xattr.nameOffset, nameEnd);
      if (isOverlayXattr(name)) throw no(`${JSON.stringify(name)} would be obeyed by overlayfs`);
      if (name <= nameBefore) throw no("its name does not follow that of the one before in byte order");
      nameBefore = name;
      listBytes += name.length + 1;
      if (listBytes > limits.xattrListBytesMax) {
        throw no(`the names of the set have more than ${limits.xattrListBytesMax} bytes`);
      }
      if (xattr.valueLength > limits.xattrValueBytesMax) {
        throw no(`the value has ${xattr.valueLength} bytes, more than ${limits.xattrValueBytesMax}`);
      }
      if (xattr.valueLength === 0 && xattr.valueOffset !== 0)
        throw no("valueOffset of an empty value is not 0");
      if (xattr.valueOffset + xattr.valueLength > this.#sections.xattrValues.bytes.length) {
        throw no("its value reaches beyond the end of xattrValues");
      }
    }
  }

  checkEnd(): void {
    if (this.#end !== this.#countAt.length) throw this.#refuse("xattrs", this.#end, "belongs to no inode");
  }
}

/**
 * Checks every name, and that names and inodes agree. The inodes have been checked for themselves. Reads single fields instead
 * of whole inodes: this is the longest part of opening an archive, and its reads of inodes are the least local.
 */
function checkDirents(sections: LoadedSections, refuse: Refuse): void {
  const { bytes: inodeBytes, view: inodes } = sections.inodes;
  const { view } = sections.dirents;
  const names = sections.names.bytes;
  const inodeCount = inodeBytes.length / recordBytes.inodes;
  const links = new Uint32Array(inodeCount);
  const directoryType = direntTypes.directory;

  for (let i = 0; i < inodeCount; i++) {
    const inodeOffset = i * recordBytes.inodes;
    if (inodes.getUint32(inodeOffset + inodeAt.mode, true) >>> 12 !== directoryType) continue;
    const first = inodes.getUint32(inodeOffset + inodeAt.first, true);
    const end = first + inodes.getUint32(inodeOffset + inodeAt.count, true);
    let subdirectories = 0;
    let nameOffsetBefore = 0;
    let nameLengthBefore = 0;
    for (let index = first; index < end; index++) {
      const at = index * recordBytes.dirents;
      const ino = view.getUint32(at + direntAt.inode, true);
      const nameOffset = view.getUint32(at + direntAt.nameOffset, true);
      const nameLength = view.getUint16(at + direntAt.nameLength, true);
      const fault = nameFault(names, nameOffset, nameLength);
      if (fault !== undefined) throw refuse("dirents", index, fault);
      if (
        nameLengthBefore !== 0 &&
        !isAscending(names, nameOffsetBefore, nameLengthBefore, nameOffset, nameLength)
      ) {
        throw refuse("dirents", index, "its name does not follow that of the one before in byte order");
      }
      nameOffsetBefore = nameOffset;
      nameLengthBefore = nameLength;
      if (view.getUint8(at + direntAt.reserved) !== 0) {
        throw refuse("dirents", index, "the reserved byte is not zero");
      }
      if (ino < 2 || ino > inodeCount) {
        throw refuse("dirents", index, `inode is ${ino}, not 2 to ${inodeCount}`);
      }
      const targetOffset = (ino - 1) * recordBytes.inodes;
      const type = inodes.getUint32(targetOffset + inodeAt.mode, true) >>> 12;
      if (view.getUint8(at + direntAt.type) !== type) {
        throw refuse("dirents", index, `type is not ${type}, that of inode ${ino}`);
      }
      links[ino - 1]!++;
      if (type === directoryType) {
        subdirectories++;
        const parent = inodes.getUint32(targetOffset + inodeAt.parent, true);
        if (parent !== i + 1) {
          throw refuse(
            "dirents",
            index,
            `it is in directory ${i + 1}, but the parent of ${ino} is ${parent}`,
          );
        }
      }
    }
    const nlink = inodes.getUint32(inodeOffset + inodeAt.nlink, true);
    if (nlink !== 2 + subdirectories) {
      throw refuse("inodes", i, `nlink is ${nlink}, but it has ${subdirectories} subdirectories`);
    }
  }
  for (let i = 1; i < inodeCount; i++) {
    const at = i * recordBytes.inodes;
    const isDirectory = inodes.getUint32(at + inodeAt.mode, true) >>> 12 === directoryType;
    const wanted = isDirectory ? 1 : inodes.getUint32(at + inodeAt.nlink, true);
    if (links[i] !== wanted) throw refuse("inodes", i, `${links[i]} dirents name it, not ${wanted}`);
  }
}

const slash = 0x2f;
const dot = 0x2e;

function nameFault(names: Buffer, offset: number, length: number): string | undefined {
  if (length < 1 || length > limits.nameBytesMax)
    return `the name has ${length} bytes, not 1 to ${limits.nameBytesMax}`;
  if (offset + length > names.length) return "its name reaches beyond the end of names";
  for (let at = offset; at < offset + length; at++) {
    if (names[at] === slash) return "its name has a slash";
  }
  if (names[offset] === dot && (length === 1 || (length === 2 && names[offset + 1] === dot))) {
    return "its name is . or ..";
  }
  return undefined;
}

/** True where the name `a` is before `b` in byte order, a prefix first. */
function isAscending(names: Buffer, a: number, aLength: number, b: number, bLength: number): boolean {
  const shared = Math.min(aLength, bLength);
  for (let i = 0; i < shared; i++) {
    const difference = names[a + i]! - names[b + i]!;
    if (difference !== 0) return difference < 0;
  }
  return aLength < bLength;
}
