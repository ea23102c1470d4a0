/** Files of a container as they are listed, sent and received. */
import type { ByteString } from "../base/byte-string.js";

/** A path or a name as text, or as the bytes that it is. */
export type PathInput = string | Uint8Array;

export interface ContainerEntry {
  /** Counted from what was asked for; empty for that itself. Never with `..` or an empty name in it. */
  readonly path: ByteString;
  /** `other`: a device, a FIFO or a socket. */
  readonly kind: "file" | "directory" | "symlink" | "other";
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a file; 0 for all else. */
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Of a symlink; empty for all else. */
  readonly target: ByteString;
}

/** What is to be put into a container. */
export interface FileToCopy {
  /** In the container; where it ends in a symlink, what that leads to is replaced. Missing directories above are made. */
  readonly path: PathInput;
  /** Default: file. A directory that is there stays as it is. */
  readonly kind?: "file" | "directory" | "symlink";
  /** Of a file. Default: empty. */
  readonly content?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Of a symlink. */
  readonly target?: PathInput;
  /** Default: 0644, directories 0755. */
  readonly mode?: number;
  /** Default: the user as whom `exec` starts processes. */
  readonly uid?: number;
  readonly gid?: number;
  /** Of a file or a symlink. Default: now. */
  readonly mtime?: { readonly seconds: number; readonly nanoseconds: number };
  /** What is already known to be wrong with it, in one line: nothing is sent of it, and this is its result. */
  readonly error?: string;
}

export interface CopyResult {
  readonly path: ByteString;
  /** What went wrong with this one, in one line; undefined where it is in its place. */
  readonly error?: string;
  /** An errno name such as ENOSPC, where a system call in the container has failed. */
  readonly errno?: string;
}
