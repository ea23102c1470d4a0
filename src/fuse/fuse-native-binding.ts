/**
 * The native half of the npm package fuse-native 2.2.6, as this engine uses it: its C functions (fuse-native.c), not its class.
 *
 * The class (index.js) fixes in JavaScript what the C half leaves open: it cannot be given `use_ino`, adds 128 to the size of attribute
 * lists, has no ERANGE, answers operations that nobody implements with EPERM, and unmounts by handing a path to a shell. The
 * functions below it have none of this, and calling them directly also saves three closures and a tick a request.
 *
 * How they work: libfuse 2.9's worker threads each hand one operation at a time to the main event loop and sleep until its `signal` function
 * is called, once, with the `thread` that came with the operation. A path is UTF-8 text on this way: other bytes do not survive it.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { SkimError } from "../base/errors.js";

declare const threadBrand: unique symbol;
/** The libfuse thread that waits for an answer. */
export interface FuseThread {
  readonly [threadBrand]: true;
}

/** `errno` is 0 or negative; where a number of bytes is asked for, that number. The last argument must be given in any case. */
export interface FuseNativeBinding {
  readonly sizeof_fuse_thread_t: number;
  readonly op_init: number;
  readonly op_getattr: number;
  readonly op_readlink: number;
  readonly op_readdir: number;
  readonly op_read: number;
  readonly op_statfs: number;
  readonly op_getxattr: number;
  readonly op_listxattr: number;

  /**
   * fuse_mount and fuse_new, then a thread that runs the session; blocks for mount(2). `state` (sizeof_fuse_thread_t zeros) and what
   * `allocate` returns must never be collected: handles of the event loop lie in them that are never closed. `handlers` are called
   * with `receiver` as `this`; `implemented` has a 1 at each op number that libfuse shall pass on. Mountpoint and options are cut at 1023 bytes.
   * Throws "fuse failed"; the reason has been written to standard error by libfuse.
   */
  fuse_native_mount(
    mountpoint: string,
    options: string,
    state: Buffer,
    receiver: object,
    allocate: (bytes: number) => Buffer,
    handlers: ReadonlyArray<(...args: never[]) => void>,
    implemented: Uint32Array,
  ): void;
  /** Unmounts nothing: lets the event loop end although `state` is still part of it. */
  fuse_native_unmount(mountpoint: string, state: Buffer): void;

  fuse_native_signal_init(thread: FuseThread, errno: number): void;
  /** `stat`: statWords values; see fuse-native-words.ts. */
  fuse_native_signal_getattr(thread: FuseThread, errno: number, stat: Uint32Array): void;
  fuse_native_signal_readlink(thread: FuseThread, errno: number, target: string): void;
  /** As many `stats` as `names`; of each only mode and ino are used. */
  fuse_native_signal_readdir(
    thread: FuseThread,
    errno: number,
    names: readonly string[],
    stats: readonly Uint32Array[],
  ): void;
  /** `bytes` is the ArrayBuffer of the Buffer that came with the operation; it is detached. */
  fuse_native_signal_read(thread: FuseThread, result: number, unused: 0, bytes: ArrayBufferLike): void;
  fuse_native_signal_statfs(thread: FuseThread, errno: number, totals: Uint32Array): void;
  /** As for read. */
  fuse_native_signal_getxattr(thread: FuseThread, result: number, bytes: ArrayBufferLike): void;
  fuse_native_signal_listxattr(thread: FuseThread, result: number, bytes: ArrayBufferLike): void;
}

/** The size of the C arrays that mountpoint and options are copied into, without the final NUL. */
export const nativeTextBytesMax = 1023;

/** Loads the package. Throws ENVIRONMENT where it, its build for this machine or libfuse is missing. */
export function loadFuseNative(
  packageRequire: NodeJS.Require = createRequire(import.meta.url),
): FuseNativeBinding {
  const missing = (found: string, cause: unknown) =>
    new SkimError("ENVIRONMENT", `the fuse-native engine cannot be loaded: ${found}`, { cause });
  let directory: string;
  try {
    directory = path.dirname(packageRequire.resolve("fuse-native/package.json"));
  } catch (cause) {
    throw missing("the optional npm package fuse-native is not installed; run npm install", cause);
  }
  try {
    // What the package's own index.js does to find its build: prebuilt for x86-64, compiled at installation elsewhere.
    const load = createRequire(path.join(directory, "index.js"))("node-gyp-build") as (
      dir: string,
    ) => unknown;
    return load(directory) as FuseNativeBinding;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    if (text.includes("libfuse.so.2"))
      throw missing("libfuse.so.2 is missing; run apt-get install libfuse2", cause);
    throw missing("its native build is missing or broken; run npm rebuild fuse-native", cause);
  }
}
