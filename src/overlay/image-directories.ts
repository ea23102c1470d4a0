import type { ByteString } from "../base/byte-string.js";
import type { Xattr } from "../layer/layer-index.js";

/**
 * What seeding asks of an image: answered from its index, never through a mount of it. A directory is cloned from this
 * answer, so a wrong mode here is a wrong mode in the container.
 */
export interface ImageDirectories {
  /**
   * What the image has at `path` itself; a symlink is not followed. `path` is absolute, without `.`, `..`, `//` or a trailing `/`
   * (the root is `/`), and everything above its last name is a directory of the image. Undefined where there is nothing.
   */
  findEntry(path: ByteString): ImageEntry | undefined;
}

export type ImageEntry =
  | ImageDirectory
  | { readonly type: "symlink"; readonly target: ByteString }
  | { readonly type: "other" };

export interface ImageDirectory {
  readonly type: "directory";
  /** Permission bits, 0 to 0o7777. Type bits, if any, are ignored. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly xattrs: readonly Xattr[];
}
