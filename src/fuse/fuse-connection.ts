/**
 * A FUSE mount without anybody to serve it yet: /dev/fuse opened, and the mount made on it.
 *
 * Root mounts with mount(2). Others, and a root that may not mount, go through fusermount3, the setuid program of the fuse3 package, which mounts for
 * them and hands the descriptor back through a socket. (fsopen(2) would tell more of why a mount fails than mount(2), but what can go wrong here has
 * been looked at before: the device, the mount point, the options are ours.)
 */
import { closeSync, constants, openSync } from "node:fs";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import type { FuseMountOptions } from "./fuse-session.js";
import { fusermountMount } from "./fusermount.js";
import { mountSource } from "./mount-source.js";
import { findMount, type MountEntry } from "./mount-table.js";
import { checkAllowOther, checkFuseDevice, checkMountpoint, refuseMounted } from "./mountpoint.js";
import { MNT_DETACH, MNT_FORCE } from "./umount-flags.js";

/** Flags of mount(2). Neither MS_NOSUID nor MS_NODEV: setuid programs and device nodes of an image must work. */
const MS_RDONLY = 1;
/** The type of the root inode in octal, S_IFDIR: what the mount shows before its server has been asked. */
const rootMode = "40000";

export type ConnectOptions = Pick<FuseMountOptions, "mountpoint" | "allowOther" | "fsName" | "signal">;

export interface FuseConnection {
  /** Of /dev/fuse; the caller's to close, or to hand to a session. */
  readonly descriptor: number;
  readonly mount: MountEntry;
}

export type MountingNative = Pick<NativeBinding, "mount" | "umount" | "socketPair" | "receiveDescriptor">;

/** Mounts. Whoever looks at the mount from now on waits until somebody serves `descriptor`. Throws as FuseEngine.mount does, and leaves nothing. */
export async function connectFuse(options: ConnectOptions, native: MountingNative): Promise<FuseConnection> {
  const { allowOther, signal } = options;
  const isRoot = process.geteuid?.() === 0;
  throwIfAborted(options);
  const given = await checkBeforeMounting(options);
  throwIfAborted(options);
  const mountpoint = refuseMounted(given);
  const source = mountSource(options.fsName);
  const descriptor =
    (isRoot ? await mountAsRoot(mountpoint, source, allowOther, native) : undefined) ??
    (await fusermountMount(mountpoint, source, allowOther, native));
  const mount = findMount(mountpoint);
  invariant(mount?.type === "fuse.skim", "what was mounted is in the table");
  if (signal?.aborted) {
    await native.umount(mountpoint, MNT_FORCE | MNT_DETACH);
    closeSync(descriptor);
    throwIfAborted(options);
  }
  return { descriptor, mount };
}

/** What must be so, whoever mounts. Resolves to the mount point's absolute path without symlinks. Throws ENVIRONMENT and MOUNT_FAILED. */
export async function checkBeforeMounting({
  mountpoint,
  allowOther,
}: Pick<ConnectOptions, "mountpoint" | "allowOther">): Promise<string> {
  // fusermount3 opens the device with the rights of its caller.
  await checkFuseDevice();
  if (allowOther) await checkAllowOther();
  return await checkMountpoint(mountpoint);
}

/** The descriptor; undefined where the kernel does not let this process mount. */
async function mountAsRoot(
  mountpoint: string,
  source: string,
  allowOther: boolean,
  native: MountingNative,
): Promise<number | undefined> {
  const descriptor = openFuseDevice();
  try {
    if (await mountDescriptor(descriptor, mountpoint, source, allowOther, native)) return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  closeSync(descriptor);
  return undefined;
}

/** A number, and no FileHandle: it is for threads that outlive any object. */
export function openFuseDevice(): number {
  return openSync("/dev/fuse", constants.O_RDWR);
}

/** mount(2) on an open /dev/fuse. False where the kernel does not let this process mount. Throws MOUNT_FAILED. */
export async function mountDescriptor(
  descriptor: number,
  mountpoint: string,
  source: string,
  allowOther: boolean,
  native: Pick<NativeBinding, "mount">,
): Promise<boolean> {
  const options = [
    `fd=${descriptor}`,
    `rootmode=${rootMode}`,
    `user_id=${process.geteuid!()}`,
    `group_id=${process.getegid!()}`,
    "default_permissions",
    ...(allowOther ? ["allow_other"] : []),
  ].join(",");
  try {
    await native.mount(source, mountpoint, "fuse.skim", MS_RDONLY, options);
    return true;
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === "EPERM") return false;
    throw mountRefusal(mountpoint, code, cause);
  }
}

/** The error of a mount(2) that failed with `code`. */
export function mountRefusal(mountpoint: string, code: string | undefined, cause?: unknown): SkimError {
  return new SkimError(
    "MOUNT_FAILED",
    `cannot mount on ${mountpoint}: mount(2) says ${code}; the kernel may have more in dmesg`,
    { cause },
  );
}

export function throwIfAborted({
  mountpoint,
  signal,
}: Pick<FuseMountOptions, "mountpoint" | "signal">): void {
  if (signal?.aborted)
    throw new SkimError("CANCELLED", `mounting on ${mountpoint} was cancelled`, { cause: signal.reason });
}
