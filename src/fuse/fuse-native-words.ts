/**
 * Attributes as fuse-native's C half takes them: 32-bit words in a fixed order (fuse-native.c, populate_stat and populate_statvfs).
 *
 * Two consecutive words are one number, low half first. Times are milliseconds, without sign: nanoseconds are cut off, and what lies before
 * 1970 becomes 1970.
 */
import { encodeDevice, type FileAttributes, type FilesystemTotals } from "../filesystem/file-attributes.js";

const word = 2 ** 32;
const statWordCount = 18;
const statfsWordCount = 11;

/** Given with errors, where the values are not looked at. */
export const noStat = new Uint32Array(statWordCount);
export const noStatfs = new Uint32Array(statfsWordCount);

/** mode, uid, gid, size (2), dev, nlink, ino, rdev, blksize, blocks (2), atime (2), mtime (2), ctime (2). */
export function statWords(attributes: FileAttributes): Uint32Array {
  const { size, blocks } = attributes;
  const time = Math.max(0, attributes.mtimeSec * 1000 + Math.floor(attributes.mtimeNsec / 1e6));
  const timeLow = time % word;
  const timeHigh = Math.floor(time / word);
  return Uint32Array.of(
    attributes.mode,
    attributes.uid,
    attributes.gid,
    size % word,
    Math.floor(size / word),
    0,
    attributes.nlink,
    attributes.ino,
    encodeDevice(attributes.rdevMajor, attributes.rdevMinor),
    attributes.blksize,
    blocks % word,
    Math.floor(blocks / word),
    timeLow,
    timeHigh,
    timeLow,
    timeHigh,
    timeLow,
    timeHigh,
  );
}

/** What readdir needs of a stat: type and inode number. */
export function direntWords(ino: number, direntType: number): Uint32Array {
  const words = new Uint32Array(statWordCount);
  words[0] = direntType << 12;
  words[7] = ino;
  return words;
}

/** bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax: one word each, so counts end at 2^32 - 1. */
export function statfsWords(totals: FilesystemTotals): Uint32Array {
  const count = (value: number) => Math.min(value, word - 1);
  return Uint32Array.of(
    totals.blockBytes,
    totals.blockBytes,
    count(totals.blocks),
    count(totals.blocksFree),
    count(totals.blocksFree),
    count(totals.files),
    count(totals.filesFree),
    count(totals.filesFree),
    0,
    0,
    totals.nameBytesMax,
  );
}
