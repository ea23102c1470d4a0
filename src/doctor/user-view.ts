/**
 * A container's tree as one user has it: directories that the user may not search end the way with EACCES, and a file counts as executable where the user may execute it. What programs are
 * looked for in, for an image that runs as somebody else than root.
 */
import type { ByteString } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { type FileAttributes, fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { type ResolvedPath, resolvePath } from "../filesystem/path-walk.js";
import type { ProgramFilesystem } from "../program/program-image.js";
import { type AccessUser, mayAccess, ownerText, type Want } from "./access.js";
import type { ContainerTree } from "./container-tree.js";

export class UserView implements ProgramFilesystem {
  readonly #tree: ContainerTree;
  readonly #user: AccessUser;

  constructor(tree: ContainerTree, user: AccessUser) {
    this.#tree = tree;
    this.#user = user;
  }

  search(directory: number): void {
    const found = this.#tree.attributes(directory);
    if (!mayAccess(this.#user, found, "execute"))
      throw new ErrnoError("EACCES", `a directory on the way (${ownerText(found)}) may not be searched`);
  }

  lookup(parent: number, name: ByteString): number {
    return this.#tree.lookup(parent, name);
  }

  attributes(ino: number): FileAttributes {
    const found = this.#tree.attributes(ino);
    const isFile = (found.mode & fileTypeMask) === fileTypes.file;
    return isFile && !mayAccess(this.#user, found, "execute")
      ? { ...found, mode: found.mode & ~0o111 }
      : found;
  }

  readLink(ino: number): ByteString {
    return this.#tree.readLink(ino);
  }

  realPath(path: ByteString): ResolvedPath {
    return resolvePath(this, path, true);
  }

  readDirectory(ino: number, offset?: number) {
    return this.#tree.readDirectory(ino, offset);
  }

  read(ino: number, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<number> {
    return this.#tree.read(ino, offset, into, signal);
  }

  /** Whether the user may `wanted` what `path` leads to; throws ErrnoError where it leads nowhere for him. */
  may(path: ByteString, wanted: Want): boolean {
    return mayAccess(this.#user, this.#tree.attributes(this.realPath(path).ino), wanted);
  }
}
