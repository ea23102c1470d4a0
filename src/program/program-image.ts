/**
 * What programs are looked for in: the tree of an image, and pieces of its files. Paths are those of a process whose root directory is the
 * image's; symlinks lead nowhere else.
 */
import type { ByteString } from "../base/byte-string.js";
import { invariant } from "../base/errors.js";
import { ErrnoError, type ErrnoName } from "../filesystem/errno-error.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import type { ImageFilesystem } from "../filesystem/image-filesystem.js";
import { type ElfObject, type NoElf, readElf } from "./elf.js";

/** A regular file of an image. */
export interface ImageFile {
  readonly ino: number;
  /** Absolute, without symlinks. */
  readonly path: ByteString;
  readonly bytes: number;
  /** Some execute bit is set: root may run it. In a tree as one user sees it: that user may. */
  readonly executable: boolean;
}

/** Why a path gives no file: what open(2) or execve(2) would say of it. */
export type NoFile = ErrnoName;

export type FoundFile = { readonly file: ImageFile } | { readonly file?: undefined; readonly why: NoFile };

/** What of a filesystem is needed. */
export type ProgramFilesystem = Pick<ImageFilesystem, "realPath" | "attributes" | "readDirectory" | "read">;

/** A read of a file is about its head, or a small table: more at once means that somebody trusts a number in a file. */
const pieceBytesMax = 4 * 1024 * 1024;

/** Whether a piece of a file may be read; what may not is as unknown as what is not there. */
export type MayRead = (ino: number, offset: number, length: number) => boolean;

export class ProgramImage {
  readonly #filesystem: ProgramFilesystem;
  readonly #mayRead: MayRead;
  readonly #signal: AbortSignal | undefined;
  readonly #objects = new Map<number, Promise<ElfObject | NoElf>>();
  /** Objects may be read before their turn: false where a limit is to meet the same ones every time. */
  readonly readsAhead: boolean;

  /** Is told of files whose head and tables will be read, earlier than they are; what comes of that is its own affair. */
  readonly willRead: (file: ImageFile) => void;
  /** `readsAhead`: default where there is no limit. */
  constructor(
    filesystem: ProgramFilesystem,
    options: {
      mayRead?: MayRead;
      readsAhead?: boolean;
      willRead?: (file: ImageFile) => void;
      signal?: AbortSignal;
    } = {},
  ) {
    this.willRead = options.willRead ?? (() => {});
    this.#filesystem = filesystem;
    this.readsAhead = options.readsAhead ?? options.mayRead === undefined;
    this.#mayRead = options.mayRead ?? (() => true);
    this.#signal = options.signal;
  }

  /** The regular file at `path`, relative to `directory` unless it is absolute. Other things than files are EACCES, as execve(2) has it. */
  find(path: ByteString, directory: ByteString = "/" as ByteString): FoundFile {
    try {
      const found = this.#filesystem.realPath(joined(directory, path));
      const { mode, size } = this.#filesystem.attributes(found.ino);
      if ((mode & fileTypeMask) === fileTypes.directory) return { why: "EISDIR" };
      if ((mode & fileTypeMask) !== fileTypes.file) return { why: "EACCES" };
      return { file: { ...found, bytes: size, executable: (mode & 0o111) !== 0 } };
    } catch (error) {
      if (error instanceof ErrnoError) return { why: error.errnoName };
      throw error;
    }
  }

  /** Names in a directory in byte order; none where there is no directory. */
  names(directory: ByteString): ByteString[] {
    try {
      const entries = this.#filesystem.readDirectory(this.#filesystem.realPath(directory).ino, 2);
      return Array.from(entries, ({ name }) => name);
    } catch (error) {
      if (error instanceof ErrnoError) return [];
      throw error;
    }
  }

  /** Up to `length` bytes from `offset` on; undefined where they may not be read. Rejects as the content does. */
  async read(file: ImageFile, offset: number, length: number): Promise<Buffer | undefined> {
    invariant(length <= pieceBytesMax, "programs are read in pieces");
    const into = Buffer.alloc(Math.max(0, Math.min(length, file.bytes - offset)));
    if (into.length === 0) return into;
    if (!this.#mayRead(file.ino, offset, into.length)) return undefined;
    await this.#filesystem.read(file.ino, offset, into, this.#signal);
    return into;
  }

  /** The whole of a small file; undefined where it has more than `bytesMax`, or may not be read. */
  async readSmall(file: ImageFile, bytesMax: number): Promise<Buffer | undefined> {
    return file.bytes > bytesMax ? undefined : await this.read(file, 0, file.bytes);
  }

  /** The ELF object that a file is; read once. */
  elf(file: ImageFile): Promise<ElfObject | NoElf> {
    const known = this.#objects.get(file.ino);
    if (known) return known;
    const object = readElf((offset, length) => this.read(file, offset, length), file.bytes);
    this.#objects.set(file.ino, object);
    return object;
  }
}

/** `path` as seen from `directory`. */
export function joined(directory: ByteString, path: ByteString): ByteString {
  if (path.startsWith("/") || path === "") return path;
  return `${directory.replace(/\/$/, "")}/${path}` as ByteString;
}

export function directoryOf(path: ByteString): ByteString {
  return (path.slice(0, path.lastIndexOf("/")) || "/") as ByteString;
}

export function baseNameOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf("/") + 1) as ByteString;
}
