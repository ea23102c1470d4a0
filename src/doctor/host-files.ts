/**
 * Files of this host that a container is given by bind mounts, as nodes of a tree. What is at the source of a mount is resolved on the host; below it
 * nothing is followed here: a symlink is the container's to resolve, and so never leads anywhere else on the host.
 */
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  type Stats,
} from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../base/byte-string.js";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { FileAttributes } from "../filesystem/file-attributes.js";

/** One file or directory of the host. Its path has no symlinks below the source of its mount. */
export class HostFile {
  readonly path: ByteString;
  readonly #stat: Stats;

  private constructor(path: ByteString, stat: Stats) {
    this.path = path;
    this.#stat = stat;
  }

  /** What is mounted where `source` is the source: what it leads to. Undefined where there is nothing. */
  static source(source: ByteString): HostFile | undefined {
    try {
      return HostFile.at(byteStringOf(realpathSync(bytesOf(source), { encoding: "buffer" })));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw localError(source, error);
    }
  }

  /** The file itself, a symlink not followed. Undefined where there is nothing, or nothing that this process may look at. */
  static at(path: ByteString): HostFile | undefined {
    try {
      return new HostFile(path, lstatSync(bytesOf(path)));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw localError(path, error);
    }
  }

  child(name: ByteString): HostFile | undefined {
    return this.#stat.isDirectory() ? HostFile.at(`${this.path}/${name}` as ByteString) : undefined;
  }

  attributes(ino: number): FileAttributes {
    const { mode, nlink, uid, gid, size, blocks, mtimeMs } = this.#stat;
    return {
      ...{ ino, mode, nlink, uid, gid, size, blocks, blksize: 4096, rdevMajor: 0, rdevMinor: 0 },
      mtimeSec: Math.floor(mtimeMs / 1000),
      mtimeNsec: 0,
    };
  }

  get isDirectory(): boolean {
    return this.#stat.isDirectory();
  }

  names(): ByteString[] {
    try {
      return readdirSync(bytesOf(this.path), { encoding: "buffer" }).map(byteStringOf).sort();
    } catch (error) {
      if (systemErrorCode(error) === "EACCES") return [];
      throw localError(this.path, error);
    }
  }

  target(): ByteString {
    return byteStringOf(readlinkSync(bytesOf(this.path), { encoding: "buffer" }));
  }

  /** Fills `into`, zeros where the file has become shorter. Throws LOCAL_IO. */
  read(offset: number, into: Uint8Array): void {
    try {
      // Regular files only, by the caller's look; a FIFO that has taken the place of one must not hang us.
      const descriptor = openSync(
        bytesOf(this.path),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      try {
        for (let done = 0; done < into.length; ) {
          const got = readSync(descriptor, into, done, into.length - done, offset + done);
          if (got === 0) return;
          done += got;
        }
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      throw localError(this.path, error);
    }
  }
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG", "ELOOP"].includes(systemErrorCode(error) ?? "");
}

function localError(path: ByteString, cause: unknown): SkimError {
  return new SkimError("LOCAL_IO", `cannot look at ${path} on this host`, { cause });
}
