/**
 * The tree of an archive as a filesystem: what a kernel, or a command that looks into an image, asks of it. SEMANTICS.md has the sentences
 * that its answers hold to.
 *
 * Everything is named by inode number, the root being 1: the numbers are those of the archive and never change, so there are no
 * handles, no counts and nothing to forget. All answers but `read` come from memory at once. Nothing here writes.
 */
import type { Archive, ArchiveExtent } from "../archive/archive.js";
import type { ByteString } from "../base/byte-string.js";
import { invariant } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { ErrnoError } from "./errno-error.js";
import {
  type FileAttributes,
  type FilesystemTotals,
  fileTypeMask,
  fileTypes,
  rootIno,
} from "./file-attributes.js";
import { type ResolvedPath, resolvePath } from "./path-walk.js";

/** What of an archive this room uses. */
export type FilesystemArchive = Pick<
  Archive,
  | "inode"
  | "lookup"
  | "direntCount"
  | "dirent"
  | "linkTarget"
  | "extents"
  | "xattrs"
  | "hasXattrs"
  | "inodeCount"
  | "totals"
>;

/** Where the bytes of files come from. */
export interface FileContent {
  /**
   * Fills `into` with the bytes of a file from `offset` on, zeros where no extent covers them. Resolves to how many: all of `into`, or up
   * to the file's end. Rejects with a SkimError whose errno (errnoOf) the reader gets.
   */
  read(request: FileReadRequest): Promise<number>;
}

export interface FileReadRequest {
  /** All extents of the file, ascending. */
  readonly extents: readonly ArchiveExtent[];
  /** Size of the file. */
  readonly fileBytes: number;
  readonly offset: number;
  readonly into: Uint8Array;
  readonly signal?: AbortSignal;
}

/** A name in a directory, as getdents(2) gives it. */
export interface DirectoryEntry {
  readonly name: ByteString;
  readonly ino: number;
  /** d_type: DT_REG 8, DT_DIR 4, DT_LNK 10, DT_CHR 2, DT_BLK 6, DT_FIFO 1. */
  readonly type: number;
  /** Where reading goes on behind this name (d_off): its position + 1. Never changes. */
  readonly nextOffset: number;
}

const DT_DIR = 4;
const blockBytes = 4096;
/** The unit of st_blocks, whatever the block size of a filesystem is (stat(2)). */
const statBlockBytes = 512;

export class ImageFilesystem {
  /** True where getXattr and listXattr can ever answer anything but "none". */
  readonly hasXattrs: boolean;
  /** Inode numbers are 1 to this. */
  readonly inodeCount: number;
  readonly #archive: FilesystemArchive;
  readonly #content: FileContent | undefined;

  /** Neither is closed by this class. Without `content` everything works but `read`. */
  constructor(parts: { archive: FilesystemArchive; content: FileContent | undefined }) {
    this.#archive = parts.archive;
    this.#content = parts.content;
    this.hasXattrs = parts.archive.hasXattrs;
    this.inodeCount = parts.archive.inodeCount;
  }

  /** Throws ESTALE for a number that is no inode. */
  attributes(ino: number): FileAttributes {
    const inode = this.#inode(ino);
    return {
      ino,
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      size: inode.size,
      blocks: Math.ceil(inode.size / statBlockBytes),
      blksize: blockBytes,
      rdevMajor: inode.deviceMajor,
      rdevMinor: inode.deviceMinor,
      mtimeSec: inode.mtimeSec,
      mtimeNsec: inode.mtimeNsec,
    };
  }

  /** The inode number of `name` in a directory; 0 where there is no such name. Throws ENOTDIR, ENAMETOOLONG, ESTALE. */
  lookup(parent: number, name: ByteString): number {
    this.#expect(parent, fileTypes.directory, "ENOTDIR", "is not a directory");
    if (name.length > limits.nameBytesMax)
      throw new ErrnoError("ENAMETOOLONG", `a name of ${name.length} bytes is longer than any file's`);
    return this.#archive.lookup(parent, name);
  }

  /** The inode number of the directory that holds the directory `ino`; the root's is the root. Throws ENOTDIR, ESTALE. */
  parentOf(ino: number): number {
    return this.#expect(ino, fileTypes.directory, "ENOTDIR", "is not a directory").parent;
  }

  /**
   * The names in a directory: `.`, `..`, then all others in the order of their bytes. `offset` is 0, or a nextOffset from this or any
   * other reading of it; beyond the end there are none. Throws ENOTDIR, ESTALE.
   */
  readDirectory(ino: number, offset = 0): IterableIterator<DirectoryEntry> {
    const { parent } = this.#expect(ino, fileTypes.directory, "ENOTDIR", "is not a directory");
    return this.#directoryEntries(ino, parent, offset);
  }

  *#directoryEntries(ino: number, parent: number, offset: number): IterableIterator<DirectoryEntry> {
    if (offset < 1) yield { name: "." as ByteString, ino, type: DT_DIR, nextOffset: 1 };
    if (offset < 2) yield { name: ".." as ByteString, ino: parent, type: DT_DIR, nextOffset: 2 };
    const count = this.#archive.direntCount(ino);
    for (let position = Math.max(offset - 2, 0); position < count; position++) {
      const { name, inode, type } = this.#archive.dirent(ino, position);
      yield { name, ino: inode, type, nextOffset: position + 3 };
    }
  }

  /** The target of a symlink as stored. Throws EINVAL for all else, as readlink(2) does, and ESTALE. */
  readLink(ino: number): ByteString {
    this.#expect(ino, fileTypes.symlink, "EINVAL", "is not a symbolic link");
    return this.#archive.linkTarget(ino);
  }

  /**
   * Fills `into` with the bytes of a file from `offset` on; resolves to how many there were (0 at and behind the end). `into` must not be
   * used before it has settled; after a rejection a read that is under way may still write into it.
   * Rejects with EISDIR, EINVAL (neither file nor directory), ESTALE, and with what the content rejects with.
   */
  async read(ino: number, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<number> {
    const inode = this.#inode(ino);
    if ((inode.mode & fileTypeMask) === fileTypes.directory)
      throw new ErrnoError("EISDIR", `inode ${ino} is a directory and cannot be read as a file`);
    this.#expect(ino, fileTypes.file, "EINVAL", "is not a regular file");
    invariant(Number.isSafeInteger(offset) && offset >= 0, "reads start at a whole offset of 0 or more");
    const length = Math.min(into.length, inode.size - offset);
    if (length <= 0) return 0;
    invariant(this.#content, "files are read only from a filesystem that was opened with their content");
    const got = await this.#content.read({
      extents: this.#archive.extents(ino),
      fileBytes: inode.size,
      offset,
      into: into.subarray(0, length),
      ...(signal ? { signal } : {}),
    });
    invariant(got === length, "a read fills what was asked for up to the file's end");
    return got;
  }

  /** The value of an extended attribute; undefined where there is none of that name (ENODATA). Throws ESTALE. */
  getXattr(ino: number, name: ByteString): ByteString | undefined {
    if (this.#inode(ino).xattrCount === 0) return undefined;
    return this.#archive.xattrs(ino).find((xattr) => xattr.name === name)?.value;
  }

  /** Names of the extended attributes in byte order. Throws ESTALE. */
  listXattr(ino: number): ByteString[] {
    if (this.#inode(ino).xattrCount === 0) return [];
    return this.#archive.xattrs(ino).map((xattr) => xattr.name);
  }

  /**
   * The size of the whole image, never 0: with zeros `df` hides a filesystem, kubelet refuses its disk, and overlayfs, seeing a name
   * length of 0, refuses every name. Nothing is free, as on squashfs and EROFS: free space that cannot be written to helps nobody.
   */
  statfs(): FilesystemTotals {
    const { totals, inodeCount } = this.#archive;
    return {
      blockBytes,
      blocks: Math.max(1, Math.ceil(totals.fileBytes / blockBytes)),
      blocksFree: 0,
      files: inodeCount,
      filesFree: 0,
      nameBytesMax: limits.nameBytesMax,
    };
  }

  /**
   * The inode number at `path`, from the root with or without a leading `/`. Symlinks on the way are followed inside the image, whose
   * root nothing leads out of; one at the end is followed unless `followLast` is false and no `/` follows it.
   * Throws ENOENT, ENOTDIR, ELOOP (more than 40 symlinks), ENAMETOOLONG.
   */
  resolvePath(path: ByteString, options: { followLast?: boolean } = {}): number {
    return resolvePath(this, path, options.followLast ?? true).ino;
  }

  /** As resolvePath, with all symlinks followed, and with the path that has none. Throws as resolvePath does. */
  realPath(path: ByteString): ResolvedPath {
    return resolvePath(this, path, true);
  }

  #inode(ino: number) {
    if (!(ino >= rootIno && ino <= this.#archive.inodeCount))
      throw new ErrnoError("ESTALE", `there is no inode ${ino} in this image`);
    return this.#archive.inode(ino);
  }

  #expect(ino: number, type: number, errnoName: "ENOTDIR" | "EINVAL", found: string) {
    const inode = this.#inode(ino);
    if ((inode.mode & fileTypeMask) !== type) throw new ErrnoError(errnoName, `inode ${ino} ${found}`);
    return inode;
  }
}
