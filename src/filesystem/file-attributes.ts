/** What stat(2) says of an inode. One time serves as atime, mtime and ctime: an image has no other. */
export interface FileAttributes {
  readonly ino: number;
  /** Type and permission bits. */
  readonly mode: number;
  /** At least 1; a directory has 2 + its subdirectories. */
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes; of a symlink's target for a symlink; 4096 for a directory. */
  readonly size: number;
  /** Of 512 bytes, holes counted: a file must not look sparse to programs that then go looking for its holes. */
  readonly blocks: number;
  /** What programs should read at once. */
  readonly blksize: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** May be negative. */
  readonly mtimeSec: number;
  /** 0 to 999,999,999, forward from mtimeSec. */
  readonly mtimeNsec: number;
}

/** What statvfs(3) says; see ImageFilesystem.statfs. */
export interface FilesystemTotals {
  /** Unit of `blocks`, in bytes. */
  readonly blockBytes: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameBytesMax: number;
}

/** The root's inode number, here as in archives and in the FUSE protocol (FUSE_ROOT_ID). */
export const rootIno = 1;

/** The type bits of a mode (inode(7)). */
export const fileTypeMask = 0o170000;
export const fileTypes = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;

/** A device number as the kernel's stat has it in 32 bits (include/linux/kdev_t.h, new_encode_dev). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
