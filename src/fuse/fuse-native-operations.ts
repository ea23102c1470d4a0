/**
 * Answers the operations that libfuse hands over, from an ImageFilesystem.
 *
 * Only eight operations are implemented. What is left out, libfuse answers better in C: open, opendir and release (nothing to do), flush,
 * access, lseek, ioctl (ENOSYS, which the kernel remembers), and getxattr and listxattr of an image without attributes (likewise). The kernel
 * itself answers everything that would change a read-only mount with EROFS.
 *
 * libfuse names files by path. A name whose bytes are not UTF-8 arrives with U+FFFD in their place, and could not be told from one
 * that really has U+FFFD in it: neither kind is found, nor listed.
 *
 * The C half keeps the handlers for ever, so they hold on to this object alone, and `close` lets go of the rest.
 */
import { setMaxListeners } from "node:events";
import { constants } from "node:os";
import { LRUCache } from "lru-cache";
import { byteStringFromText, bytesOf, textOf } from "../base/byte-string.js";
import { invariant, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import { errnoNumberOf } from "../filesystem/errno-error.js";
import { rootIno } from "../filesystem/file-attributes.js";
import type { ImageFilesystem } from "../filesystem/image-filesystem.js";
import { FailureLog } from "./failure-log.js";
import type { FuseNativeBinding, FuseThread } from "./fuse-native-binding.js";
import { direntWords, noStat, noStatfs, statfsWords, statWords } from "./fuse-native-words.js";
import type { FuseOperation } from "./fuse-session.js";

const { ENOENT, ENODATA, ERANGE, EILSEQ } = constants.errno;

/** Paths of directories whose inode number is remembered; libfuse sends whole paths, and most share their directory with the one before. */
const directoryPathsMax = 4096;

/** The largest read libfuse 2.9 asks for: 32 pages (FUSE_MAX_PAGES_PER_REQ before protocol 7.28). */
export const fuseNativeReadBytesMax = 128 * 1024;

/** Read buffers kept for reuse: 2 MiB, enough for the reads that are usually under way at once. */
const spareBuffersMax = 16;

type OperationName = Exclude<FuseOperation, "lookup" | "open" | "opendir" | "readdirplus">;
type Handler = (thread: FuseThread, op: number, ...args: never[]) => void;

export class FuseNativeOperations {
  readonly #native: FuseNativeBinding;
  readonly #counters: Counters<FuseOperation>;
  readonly #failures: FailureLog;
  readonly #directories = new LRUCache<string, number>({ max: directoryPathsMax });
  readonly #spareBuffers: Buffer[] = [];
  readonly #onInit: () => void;
  readonly #traceLabel: string | undefined;
  #filesystem: ImageFilesystem | undefined;
  #abort = abortControllerOfMany();
  #readsInFlight = 0;

  constructor(parts: {
    native: FuseNativeBinding;
    filesystem: ImageFilesystem;
    counters: Counters<FuseOperation>;
    logger: Logger;
    /** What a line to standard error for each operation begins with; undefined: none is written. */
    traceLabel: string | undefined;
    onInit: () => void;
  }) {
    this.#native = parts.native;
    this.#filesystem = parts.filesystem;
    this.#counters = parts.counters;
    this.#failures = new FailureLog(parts.logger);
    this.#onInit = parts.onInit;
    this.#traceLabel = parts.traceLabel;
  }

  /** Reads that have not been answered. */
  get readsInFlight(): number {
    return this.#readsInFlight;
  }

  /** Ends the reads that are under way, for a mount that is gone; later ones are not affected. */
  abortReads(): void {
    this.#abort.abort(new SkimError("CANCELLED", "the mount has ended before its reads were answered"));
    this.#abort = abortControllerOfMany();
  }

  /** After the last operation: lets go of the filesystem. */
  close(): void {
    this.abortReads();
    this.#filesystem = undefined;
    this.#directories.clear();
    this.#spareBuffers.length = 0;
  }

  /** What fuse_native_mount takes. */
  table(): { handlers: Handler[]; implemented: Uint32Array } {
    const native = this.#native;
    const xattrOperations: OperationName[] = this.#live.hasXattrs ? ["getxattr", "listxattr"] : [];
    const names: OperationName[] = ["init", "getattr", "readlink", "readdir", "read", "statfs"];
    const implemented = new Uint32Array(operationsMax);
    const handlers: Handler[] = new Array(operationsMax).fill(() => {});
    for (const name of [...names, ...xattrOperations]) {
      implemented[native[`op_${name}`]] = 1;
      handlers[native[`op_${name}`]] = this.#handlers[name];
    }
    return { handlers, implemented };
  }

  readonly #handlers: Record<OperationName, Handler> = {
    init: (thread) => {
      this.#counters.add("init");
      this.#native.fuse_native_signal_init(thread, 0);
      this.#onInit();
    },

    getattr: (thread, _op, path: string) =>
      this.#answer(
        "getattr",
        path,
        () => {
          const ino = this.#find(path);
          if (ino === 0) this.#native.fuse_native_signal_getattr(thread, -ENOENT, noStat);
          else this.#native.fuse_native_signal_getattr(thread, 0, statWords(this.#live.attributes(ino)));
        },
        (errno) => this.#native.fuse_native_signal_getattr(thread, errno, noStat),
      ),

    readlink: (thread, _op, path: string) =>
      this.#answer(
        "readlink",
        path,
        () => {
          const target = textOf(this.#live.readLink(this.#find(path)));
          const passable = target !== undefined && isPassable(target);
          this.#native.fuse_native_signal_readlink(thread, passable ? 0 : -EILSEQ, passable ? target : "");
        },
        (errno) => this.#native.fuse_native_signal_readlink(thread, errno, ""),
      ),

    readdir: (thread, _op, path: string) =>
      this.#answer(
        "readdir",
        path,
        () => {
          const names: string[] = [];
          const stats: Uint32Array[] = [];
          for (const entry of this.#live.readDirectory(this.#find(path))) {
            const name = textOf(entry.name);
            if (name === undefined || !isPassable(name)) continue;
            names.push(name);
            stats.push(direntWords(entry.ino, entry.type));
          }
          this.#native.fuse_native_signal_readdir(thread, 0, names, stats);
        },
        (errno) => this.#native.fuse_native_signal_readdir(thread, errno, [], []),
      ),

    read: (thread, _op, path: string, _fh: number, into: Buffer, length: number, low: number, high: number) =>
      void this.#read(thread, path, into.subarray(0, length), high * 2 ** 32 + low),

    statfs: (thread) =>
      this.#answer(
        "statfs",
        "/",
        () => this.#native.fuse_native_signal_statfs(thread, 0, statfsWords(this.#live.statfs())),
        (errno) => this.#native.fuse_native_signal_statfs(thread, errno, noStatfs),
      ),

    getxattr: (thread, _op, path: string, name: string, into: Buffer) =>
      this.#answer(
        "getxattr",
        `${path}, ${name}`,
        () => {
          const value = isPassable(name)
            ? this.#live.getXattr(this.#find(path), byteStringFromText(name))
            : undefined;
          const result = value === undefined ? -ENODATA : fill(into, bytesOf(value));
          this.#native.fuse_native_signal_getxattr(thread, result, into.buffer);
        },
        (errno) => this.#native.fuse_native_signal_getxattr(thread, errno, into.buffer),
      ),

    listxattr: (thread, _op, path: string, into: Buffer) =>
      this.#answer(
        "listxattr",
        path,
        () => {
          const names = this.#live.listXattr(this.#find(path)).map((name) => bytesOf(name));
          const list = Buffer.concat(names.flatMap((name) => [name, Buffer.of(0)]));
          this.#native.fuse_native_signal_listxattr(thread, fill(into, list), into.buffer);
        },
        (errno) => this.#native.fuse_native_signal_listxattr(thread, errno, into.buffer),
      ),
  };

  /**
   * Reads into a buffer of ours and copies. libfuse frees its own as soon as it has the answer; after a failure or an abort, something in
   * the thread pool could still be writing.
   */
  async #read(thread: FuseThread, path: string, into: Buffer, offset: number): Promise<void> {
    this.#counters.add("read");
    this.#readsInFlight++;
    const startedMs = performance.now();
    let result: number;
    try {
      const ownBytes = Math.max(into.length, fuseNativeReadBytesMax);
      const own =
        (ownBytes === fuseNativeReadBytesMax && this.#spareBuffers.pop()) || Buffer.allocUnsafeSlow(ownBytes);
      const bytes = own.subarray(0, into.length);
      result = await this.#live.read(this.#find(path), offset, bytes, this.#abort.signal);
      into.set(bytes.subarray(0, result));
      // Only after success: then nobody writes into it any more.
      if (own.length === fuseNativeReadBytesMax && this.#spareBuffers.length < spareBuffersMax)
        this.#spareBuffers.push(own);
    } catch (error) {
      result = -errnoNumberOf(error);
      this.#failures.report("read", error, { path, offset });
    }
    this.#readsInFlight--;
    this.#traceLine(
      startedMs,
      () =>
        `read ${path}, ${into.length} bytes at ${offset}: ${result < 0 ? `errno ${-result}` : `${result} bytes`}`,
    );
    this.#native.fuse_native_signal_read(thread, result, 0, into.buffer);
  }

  /** Runs `answer`; if it throws before it has signalled, `fail` must. A request without an answer would hang its caller for ever. */
  #answer(name: OperationName, about: string, answer: () => void, fail: (errno: number) => void): void {
    this.#counters.add(name);
    const startedMs = performance.now();
    try {
      answer();
    } catch (error) {
      this.#failures.report(name, error, {});
      fail(-errnoNumberOf(error));
    }
    this.#traceLine(startedMs, () => `${name} ${about}`);
  }

  #traceLine(startedMs: number, text: () => string): void {
    if (this.#traceLabel === undefined) return;
    const us = Math.round((performance.now() - startedMs) * 1000);
    const line = JSON.stringify(text()).slice(1, -1);
    process.stderr.write(`fuse ${this.#traceLabel}: ${line}, ${us} us\n`);
  }

  /** The inode number of a path from the root, without symlinks, `.` or `..` in it; 0 where there is none. */
  #find(path: string): number {
    if (path === "/" || path === "") return rootIno;
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1);
    if (!isPassable(name)) return 0;
    const directory = path.slice(0, slash);
    let parent = this.#directories.get(directory);
    if (parent === undefined) {
      parent = this.#find(directory);
      if (parent === 0) return 0;
      this.#directories.set(directory, parent);
    }
    return this.#live.lookup(parent, byteStringFromText(name));
  }

  get #live(): ImageFilesystem {
    invariant(this.#filesystem, "operations are answered only while the session lives");
    return this.#filesystem;
  }
}

/** Ops of fuse-native.c, and one to spare as it has. */
const operationsMax = 35;

/** False for text that may not be what the bytes were. */
export function isPassable(text: string): boolean {
  return !text.includes("\ufffd");
}

/** Attribute calls with a size of 0 ask for the size; others want all or ERANGE (getxattr(2)). */
function fill(into: Buffer, bytes: Buffer): number {
  if (into.length === 0) return bytes.length;
  if (into.length < bytes.length) return -ERANGE;
  into.set(bytes);
  return bytes.length;
}

/** One signal for all reads under way: more than ten listeners are no leak here. */
function abortControllerOfMany(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
