/**
 * Writes a tree below a directory of the host, from entries that come top down and that nobody vouches for.
 *
 * Every directory is opened once, without following a symlink, and what is in it is made through that descriptor (/proc/self/fd/N/name: node has no
 * openat). So nothing is ever made but in directories that were made here, or that were there and are no symlinks. A file gets its name when it is
 * complete. Of the mode the nine permission bits are taken, of the owner nothing, and of what is no file, directory or symlink nothing either.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm, symlink } from "node:fs/promises";
import { type ByteString, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { loadNative } from "../native/load.js";
import type { ContainerEntry } from "./container-entry.js";

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const fileFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

interface OpenDirectory {
  /** Counted from the root. */
  readonly path: ByteString;
  readonly handle: FileHandle;
  /** Of one made here: set when everything in it is written. */
  readonly entry: ContainerEntry | undefined;
}

export class HostWriter {
  readonly #rootName: ByteString;
  /** From the directory that was given down to the one that is being written. */
  readonly #open: OpenDirectory[];
  #file: { handle: FileHandle; entry: ContainerEntry; temporary: Buffer; place: Buffer } | undefined;

  private constructor(directory: FileHandle, rootName: ByteString) {
    this.#open = [{ path: "" as ByteString, handle: directory, entry: undefined }];
    this.#rootName = rootName;
  }

  /** Writes into `directory`, whose symlinks are the caller's own, the tree's root by the name `rootName`. Throws LOCAL_IO. */
  static async open(directory: Uint8Array, rootName: ByteString): Promise<HostWriter> {
    try {
      const handle = await open(Buffer.from(directory), constants.O_RDONLY | constants.O_DIRECTORY);
      return new HostWriter(handle, rootName);
    } catch (cause) {
      throw new SkimError("LOCAL_IO", `${Buffer.from(directory)} cannot be written into`, { cause });
    }
  }

  async makeDirectory(entry: ContainerEntry): Promise<void> {
    const place = await this.#placeOf(entry);
    await this.#attempt(entry, async () => {
      const isMade = await mkdir(place, 0o700).then(
        () => true,
        (error: unknown) => {
          if (systemErrorCode(error) === "EEXIST") return false;
          throw error;
        },
      );
      const handle = await open(place, directoryFlags);
      this.#open.push({ path: this.#below(entry.path), handle, entry: isMade ? entry : undefined });
    });
  }

  async makeSymlink(entry: ContainerEntry): Promise<void> {
    const place = await this.#placeOf(entry);
    const temporary = this.#temporary();
    await this.#attempt(entry, async () => {
      await symlink(bytesOf(entry.target), temporary);
      await this.#takePlace(entry, temporary, place);
    });
  }

  async openFile(entry: ContainerEntry): Promise<void> {
    const place = await this.#placeOf(entry);
    const temporary = this.#temporary();
    await this.#attempt(entry, async () => {
      this.#file = { handle: await open(temporary, fileFlags, 0o600), entry, temporary, place };
    });
  }

  async write(bytes: Uint8Array): Promise<void> {
    const { handle, entry } = this.#file!;
    await this.#attempt(entry, async () => {
      for (let at = 0; at < bytes.byteLength; )
        at += (await handle.write(bytes, at, bytes.byteLength - at)).bytesWritten;
    });
  }

  async closeFile(): Promise<void> {
    const { handle, entry, temporary, place } = this.#file!;
    await this.#attempt(entry, async () => {
      await handle.chmod(entry.mode & 0o777);
      await handle.close();
      await this.#takePlace(entry, temporary, place);
    });
    this.#file = undefined;
  }

  /** The file that is being written is not to be. */
  async dropFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => {});
    if (file) await rm(file.temporary, { force: true });
  }

  /** Everything is written: directories get their modes and times. */
  async finish(): Promise<void> {
    while (this.#open.length > 1) await this.#leave();
  }

  /** Closes what is open, and takes away what is unfinished. */
  async close(): Promise<void> {
    await this.dropFile();
    for (const { handle } of this.#open.splice(0)) await handle.close().catch(() => {});
  }

  /** The path of an entry below the open descriptor of its directory. Throws RUNTIME_FAILED where that was not sent before it. */
  async #placeOf(entry: ContainerEntry): Promise<Buffer> {
    const path = this.#below(entry.path);
    const slash = path.lastIndexOf("/");
    const parent = slash < 0 ? "" : path.slice(0, slash);
    while (this.#open.length > 1 && this.#open.at(-1)!.path !== parent) await this.#leave();
    if (this.#open.at(-1)!.path !== parent)
      throw new SkimError(
        "RUNTIME_FAILED",
        `the container sent ${displayText(entry.path)} before its directory`,
      );
    return this.#inCurrent(bytesOf(path.slice(slash + 1) as ByteString));
  }

  #below(path: ByteString): ByteString {
    return (path === "" ? this.#rootName : `${this.#rootName}/${path}`) as ByteString;
  }

  #inCurrent(name: Uint8Array): Buffer {
    return Buffer.concat([Buffer.from(`/proc/self/fd/${this.#open.at(-1)!.handle.fd}/`), name]);
  }

  #temporary(): Buffer {
    return this.#inCurrent(Buffer.from(`.skim-${randomBytes(8).toString("hex")}`));
  }

  /** Times before the name, so that whoever sees the name sees them. */
  async #takePlace(entry: ContainerEntry, temporary: Buffer, place: Buffer): Promise<void> {
    try {
      setTime(temporary, entry);
      const there = await lstat(place).catch(() => undefined);
      if (there && !there.isFile() && !there.isSymbolicLink() && !there.isDirectory())
        throw new Error("a device, a FIFO or a socket is there, which is not replaced");
      await rename(temporary, place);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async #leave(): Promise<void> {
    const { handle, entry } = this.#open.pop()!;
    if (entry) {
      await this.#attempt(entry, async () => {
        await handle.chmod(entry.mode & 0o777);
        setTime(Buffer.from(`/proc/self/fd/${handle.fd}/.`), entry);
      });
    }
    await handle.close();
  }

  async #attempt(entry: ContainerEntry, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      throw new SkimError("LOCAL_IO", `${displayText(this.#below(entry.path))} cannot be written`, { cause });
    }
  }
}

function setTime(path: Buffer, { mtimeSec, mtimeNsec }: ContainerEntry): void {
  loadNative().setTimes(path, mtimeSec, mtimeNsec, mtimeSec, mtimeNsec);
}
