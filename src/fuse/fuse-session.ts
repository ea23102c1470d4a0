/**
 * What serves an ImageFilesystem to the kernel. There are two engines behind this interface: `native`, with threads of its own on
 * /dev/fuse, and `fuse-native`, portable and slow, over the npm package of that name. SEMANTICS.md says what holds for both and where they differ.
 */
import type { Archive } from "../archive/archive.js";
import type { Logger } from "../base/logger.js";
import type { Content } from "../content/content.js";
import type { ContentCounter } from "../content/counters.js";
import type { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { FuseEngineName } from "./engine-names.js";

/** An image as engines serve it: the tree as TypeScript answers it, and the parts that native threads answer from. None is closed by an engine. */
export interface ServedImage {
  readonly filesystem: ImageFilesystem;
  readonly archive: Pick<Archive, "servedSections" | "totals">;
  readonly content: Pick<Content, "deliverTo" | "watchFiles" | "touched">;
}

export interface FuseEngine {
  readonly name: FuseEngineName;

  /**
   * Mounts `image`, read-only, at a directory that must be there, be empty and have nothing mounted on it. Resolves when the kernel's
   * FUSE_INIT has been answered: from then on other processes can use the mount. This process must never do so itself, not by
   * stat(2) of the mount point either. A failed mount leaves nothing.
   * Throws MOUNT_FAILED, ENVIRONMENT (with the command that mends it), CANCELLED.
   */
  mount(image: ServedImage, options: FuseMountOptions): Promise<FuseSession>;
}

export interface FuseMountOptions {
  readonly mountpoint: string;
  /** Lets other users than the one who mounts in; permissions are checked by the kernel in either case. */
  readonly allowOther: boolean;
  /** What `mount` and `df` show as the source. */
  readonly fsName: string;
  readonly logger: Logger;
  /** Writes a line to standard error for each operation: its name, what it is about, the answer, and how long it took. */
  readonly traceOperations?: boolean;
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

  /** Requests so far, by the kernel's name of the operation in lower case. */
  readonly operations: { snapshot(): OperationCounts };

  /** What the engine has served by itself, past the content, in the content's terms: to be added to its counters. */
  served(): Partial<Record<ContentCounter, number>>;

  /**
   * Unmounts and waits for the end; does nothing after the end. Throws IN_USE, naming the holders that can be found, while somebody
   * has a file or directory in it open; with `force` these get ENOTCONN instead.
   */
  unmount(options?: { force?: boolean }): Promise<void>;
}

/** The kernel's names (include/uapi/linux/fuse.h, enum fuse_opcode) of what a reader makes it ask; the counts of these are always there. */
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
export type OperationCounts = Readonly<Record<FuseOperation, number> & Record<string, number>>;
