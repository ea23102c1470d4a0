/**
 * What serves an ImageFilesystem to the kernel. There are two engines behind this interface: `native`, with threads of its own on
 * /dev/fuse, and `fuse-native`, portable and slow, over the npm package of that name. SEMANTICS.md says what holds for both and where they differ.
 */
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import type { ImageFilesystem } from "../filesystem/image-filesystem.js";

export interface FuseEngine {
  readonly name: "native" | "fuse-native";

  /**
   * Mounts `filesystem`, read-only, at a directory that must be there, be empty and have nothing mounted on it. Resolves when the kernel's
   * FUSE_INIT has been answered: from then on other processes can use the mount. This process must never do so itself, not by
   * stat(2) of the mount point either. A failed mount leaves nothing.
   * Throws MOUNT_FAILED, ENVIRONMENT (with the command that mends it), CANCELLED.
   */
  mount(filesystem: ImageFilesystem, options: FuseMountOptions): Promise<FuseSession>;
}

export interface FuseMountOptions {
  readonly mountpoint: string;
  /** Lets other users than the one who mounts in; permissions are checked by the kernel in either case. */
  readonly allowOther: boolean;
  /** What `mount` and `df` show as the source. */
  readonly fsName: string;
  readonly logger: Logger;
  /** Ends waiting for the mount; the session, once there, is not bound to it. */
  readonly signal?: AbortSignal;
}

export interface FuseSession {
  /** Absolute, without symlinks. */
  readonly mountpoint: string;

  /**
   * Resolves when the kernel has dropped the connection, whoever unmounted or aborted it, and no request is under way any
   * more. A mount that is detached (`umount -l`) while files in it are open lives on until the last is closed. Never rejects.
   */
  readonly ended: Promise<void>;

  /** Requests so far, by operation. */
  readonly operations: Counters<FuseOperation>;

  /**
   * Unmounts and waits for the end; does nothing after the end. Throws IN_USE, naming the holders that can be found, while somebody
   * has a file or directory in it open; with `force` these get ENOTCONN instead.
   */
  unmount(options?: { force?: boolean }): Promise<void>;
}

/** The kernel's names (include/uapi/linux/fuse.h, enum fuse_opcode). */
export const fuseOperations = [
  "init",
  "lookup",
  "getattr",
  "readlink",
  "open",
  "read",
  "opendir",
  "readdir",
  "readdirplus",
  "statfs",
  "getxattr",
  "listxattr",
] as const;
export type FuseOperation = (typeof fuseOperations)[number];
