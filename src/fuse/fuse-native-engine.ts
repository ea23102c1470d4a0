/**
 * The portable engine: libfuse 2.9 through the npm package fuse-native. Every request crosses to the main event loop and back (about 200 µs);
 * what it is for is comparison, tests, and machines that the native engine does not run on.
 *
 * The package is an optional dependency, loaded only when this engine mounts. Its addon knows only the main thread's event loop.
 */
import { isMainThread } from "node:worker_threads";
import { describeError, invariant, SkimError } from "../base/errors.js";
import { Counters } from "../base/metrics.js";
import type { NativeBinding } from "../native/binding.js";
import { loadNative } from "../native/load.js";
import { fuseDescriptors } from "./fuse-descriptors.js";
import { type FuseNativeBinding, loadFuseNative, nativeTextBytesMax } from "./fuse-native-binding.js";
import { FuseNativeOperations, fuseNativeReadBytesMax } from "./fuse-native-operations.js";
import { FuseNativeSession } from "./fuse-native-session.js";
import {
  type FuseEngine,
  type FuseMountOptions,
  type FuseSession,
  fuseOperations,
  type ServedImage,
} from "./fuse-session.js";
import { mountSource } from "./mount-source.js";
import { findMount, type MountEntry } from "./mount-table.js";
import { checkAllowOther, checkFuseDevice, checkMountpoint, refuseMounted } from "./mountpoint.js";
import { MNT_DETACH, MNT_FORCE } from "./umount-flags.js";
import { warnOfUnpassableNames } from "./unpassable-names.js";

/** Images never change: what the kernel has seen once it need not ask for again. */
const secondsPerYear = 365 * 24 * 3600;
/** Read-ahead requests on their way at once, over all files; the kernel's own 12 would let a few slow files stop all others. */
const backgroundRequestsMax = 64;

/** Memory that the event loop's handles lie in: never closed by the addon, so never collected by us. Some 3 KiB a mount. */
const pinned = new Set<Buffer>();

export class FuseNativeEngine implements FuseEngine {
  readonly name = "fuse-native";
  readonly #loadFuseNative: () => FuseNativeBinding;
  readonly #loadNative: () => Pick<NativeBinding, "umount">;

  constructor(
    parts: {
      loadFuseNative?: () => FuseNativeBinding;
      loadNative?: () => Pick<NativeBinding, "umount">;
    } = {},
  ) {
    this.#loadFuseNative = parts.loadFuseNative ?? loadFuseNative;
    this.#loadNative = parts.loadNative ?? loadNative;
  }

  async mount({ filesystem }: ServedImage, options: FuseMountOptions): Promise<FuseSession> {
    invariant(isMainThread, "the fuse-native engine mounts from the main thread only");
    throwIfAborted(options);
    const fuseNative = this.#loadFuseNative();
    const native = this.#loadNative();
    await checkFuseDevice();
    if (options.allowOther) await checkAllowOther();
    const mountpoint = await checkMountpoint(options.mountpoint);
    throwIfAborted(options);

    let onInit = () => {};
    const initialized = new Promise<true>((resolve) => {
      onInit = () => resolve(true);
    });
    const counters = new Counters(fuseOperations);
    const operations = new FuseNativeOperations({
      native: fuseNative,
      filesystem,
      counters,
      logger: options.logger,
      traceLabel: options.traceOperations ? options.fsName : undefined,
      onInit,
    });
    const state = Buffer.alloc(fuseNative.sizeof_fuse_thread_t);
    const started = await startLibfuse({ fuseNative, native, mountpoint, options, operations, state });
    const { logger } = options;
    const session = new FuseNativeSession({
      fuseNative,
      native,
      state,
      ...started,
      operations,
      counters,
      logger,
    });

    const settled = new AbortController();
    const isReady = await Promise.race([
      initialized,
      session.ended.then(() => false),
      aborted(options.signal, settled.signal).then(() => false),
    ]);
    settled.abort();
    if (!isReady) {
      await session.unmount({ force: true });
      throwIfAborted(options);
      throw new SkimError(
        "MOUNT_FAILED",
        `the mount on ${mountpoint} ended before it was ready: somebody else unmounted it`,
      );
    }
    logger.info({ mountpoint, engine: this.name, fsName: options.fsName }, "mounted");
    const untilEnd = new AbortController();
    void session.ended.then(() => untilEnd.abort());
    warnOfUnpassableNames(filesystem, logger, untilEnd.signal).catch((error) =>
      logger.error({ error: describeError(error) }, "names that cannot be passed on were not counted"),
    );
    return session;
  }
}

/** Mounts and starts libfuse's threads; throws MOUNT_FAILED and leaves nothing. */
async function startLibfuse(parts: {
  fuseNative: FuseNativeBinding;
  native: Pick<NativeBinding, "umount">;
  mountpoint: string;
  options: FuseMountOptions;
  operations: FuseNativeOperations;
  state: Buffer;
}): Promise<{ descriptor: number; mount: MountEntry }> {
  const { fuseNative, native, mountpoint, operations, state } = parts;
  const libfuseOptions = optionsText(parts.options);
  if (Buffer.byteLength(mountpoint) > nativeTextBytesMax)
    throw new SkimError(
      "MOUNT_FAILED",
      `cannot mount on ${mountpoint}: fuse-native takes paths of at most ${nativeTextBytesMax} bytes; use a shorter one or the native engine`,
    );
  const { handlers, implemented } = operations.table();
  const allocate = (bytes: number) => pin(Buffer.alloc(bytes));
  // From here to the return nothing is awaited: no other mount of this process comes in between.
  refuseMounted(mountpoint);
  const before = new Set(fuseDescriptors());
  try {
    fuseNative.fuse_native_mount(mountpoint, libfuseOptions, pin(state), {}, allocate, handlers, implemented);
    const descriptor = fuseDescriptors().find((fd) => !before.has(fd));
    const mount = findMount(mountpoint);
    invariant(descriptor !== undefined && mount, "libfuse has mounted and holds /dev/fuse open");
    return { descriptor, mount };
  } catch (cause) {
    // fuse_new comes after fuse_mount: a mount without a server may be there.
    if (findMount(mountpoint)) await native.umount(mountpoint, MNT_FORCE | MNT_DETACH);
    throw new SkimError(
      "MOUNT_FAILED",
      `libfuse cannot mount on ${mountpoint}; it has written the reason to standard error, and the kernel may have more in dmesg`,
      { cause },
    );
  }
}

/** Options of libfuse and of mount(2), separated by commas. */
function optionsText({ allowOther, fsName }: FuseMountOptions): string {
  const fixed = [
    "ro",
    // Without these two libfuse mounts nosuid,nodev: no setuid program and no device node of an image would work.
    "suid",
    "dev",
    "default_permissions",
    ...(allowOther ? ["allow_other"] : []),
    // Inode numbers are ours, not libfuse's counter: hard links and d_ino depend on it.
    "use_ino",
    "kernel_cache",
    `entry_timeout=${secondsPerYear}`,
    `attr_timeout=${secondsPerYear}`,
    `negative_timeout=${secondsPerYear}`,
    `max_read=${fuseNativeReadBytesMax}`,
    `max_background=${backgroundRequestsMax}`,
    "subtype=skim",
  ].join(",");
  // libfuse takes a backslash as "the next character as it is".
  return `-o${fixed},fsname=${mountSource(fsName).replace(/[\\,]/g, "\\$&")}`;
}

function pin(buffer: Buffer): Buffer {
  pinned.add(buffer);
  return buffer;
}

function throwIfAborted({ mountpoint, signal }: FuseMountOptions): void {
  if (signal?.aborted)
    throw new SkimError("CANCELLED", `mounting on ${mountpoint} was cancelled`, { cause: signal.reason });
}

/** Resolves when `signal` fires; stops listening when `settled` does. */
function aborted(signal: AbortSignal | undefined, settled: AbortSignal): Promise<void> {
  return new Promise((resolve) =>
    signal?.addEventListener("abort", () => resolve(), { once: true, signal: settled }),
  );
}
