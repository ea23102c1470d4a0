/**
 * The tree that a container will see: the image, what is mounted over it, and the directories that are made for it. Like the image's own filesystem it is
 * asked by inode number; numbers above the image's are given to what is not the image's, as it is looked at.
 *
 * A mount takes the place of a name in a directory, found as the runtime finds it: symlinks on the way and at the end are followed inside the root,
 * directories that are missing are made (mode 0755, root's).
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { invariant } from "../base/errors.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { type FileAttributes, fileTypeMask, fileTypes, rootIno } from "../filesystem/file-attributes.js";
import type { DirectoryEntry, ImageFilesystem } from "../filesystem/image-filesystem.js";
import { type ResolvedPath, resolvePath } from "../filesystem/path-walk.js";
import { HostFile } from "./host-files.js";

/** A directory that neither the image nor the host has. */
interface MadeDirectory {
  readonly mode: number;
}

/** A name in a directory. */
interface Place {
  readonly parent: number;
  readonly name: ByteString;
}

/** What takes the place of a name. */
export type Mounted = { readonly host: ByteString } | { readonly directoryMode: number };

/** MAXSYMLINKS of the kernel. */
const symlinksMax = 40;

export class ContainerTree {
  /** Inode numbers up to this are the image's. */
  readonly imageInodes: number;
  readonly #image: ImageFilesystem;
  readonly #nodes: (HostFile | MadeDirectory)[] = [];
  readonly #hostInodes = new Map<ByteString, number>();
  /** Inode numbers by directory and name: what covers the name in the image, or was added. */
  readonly #covered = new Map<number, Map<ByteString, number>>();
  #hostBytesRead = 0;

  constructor(image: ImageFilesystem) {
    this.#image = image;
    this.imageInodes = image.inodeCount;
  }

  /** Bytes of the host's files that were read so far. */
  get hostBytesRead(): number {
    return this.#hostBytesRead;
  }

  /**
   * Puts `what` at the absolute path `target`. Throws ErrnoError where the runtime could not: ENOTDIR for a file on the way, ELOOP, EINVAL for
   * the root, and ENOENT where the host has nothing there.
   */
  mount(target: ByteString, what: Mounted): void {
    const place = this.#place(target);
    const node =
      "host" in what ? HostFile.source(what.host) : { mode: fileTypes.directory | what.directoryMode };
    if (!node)
      throw new ErrnoError("ENOENT", `${displayText((what as { host: ByteString }).host)} on the host`);
    this.#cover(place, this.#add(node));
  }

  /** Makes the directory `path` where there is none, and those on the way to it. Throws as mount does. */
  makeDirectory(path: ByteString, mode: number): void {
    const place = this.#place(path);
    if (this.lookup(place.parent, place.name) !== 0) {
      this.#requireDirectory(place, path);
      return;
    }
    this.#cover(place, this.#add({ mode: fileTypes.directory | mode }));
  }

  attributes(ino: number): FileAttributes {
    if (ino <= this.imageInodes) return this.#image.attributes(ino);
    const node = this.#node(ino);
    if (node instanceof HostFile) return node.attributes(ino);
    return {
      ...{ ino, mode: node.mode, nlink: 2, uid: 0, gid: 0, size: 4096, blocks: 8, blksize: 4096 },
      ...{ rdevMajor: 0, rdevMinor: 0, mtimeSec: 0, mtimeNsec: 0 },
    };
  }

  lookup(parent: number, name: ByteString): number {
    const covered = this.#covered.get(parent)?.get(name);
    if (covered !== undefined) return covered;
    if (parent <= this.imageInodes) return this.#image.lookup(parent, name);
    const node = this.#node(parent);
    const child = node instanceof HostFile ? node.child(name) : undefined;
    return child ? this.#add(child) : 0;
  }

  readLink(ino: number): ByteString {
    if (ino <= this.imageInodes) return this.#image.readLink(ino);
    const node = this.#node(ino);
    if (node instanceof HostFile) return node.target();
    throw new ErrnoError("EINVAL", "a directory is no symbolic link");
  }

  /** Without `.` and `..`, whatever `offset` is. */
  *readDirectory(ino: number, offset = 2): IterableIterator<DirectoryEntry> {
    const covered = this.#covered.get(ino);
    let nextOffset = offset;
    const entry = (name: ByteString, child: number): DirectoryEntry => {
      const type = (this.attributes(child).mode & fileTypeMask) >>> 12;
      return { name, ino: child, type, nextOffset: ++nextOffset };
    };
    if (ino <= this.imageInodes) {
      for (const one of this.#image.readDirectory(ino, 2)) if (!covered?.has(one.name)) yield one;
    } else {
      const node = this.#node(ino);
      if (node instanceof HostFile && node.isDirectory) {
        for (const name of node.names()) {
          const child = covered?.has(name) ? 0 : this.lookup(ino, name);
          if (child !== 0) yield entry(name, child);
        }
      } else if (node instanceof HostFile) throw new ErrnoError("ENOTDIR", `${displayText(node.path)}`);
    }
    for (const [name, child] of covered ?? []) yield entry(name, child);
  }

  async read(ino: number, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<number> {
    if (ino <= this.imageInodes) return await this.#image.read(ino, offset, into, signal);
    const node = this.#node(ino);
    invariant(node instanceof HostFile, "only files are read");
    node.read(offset, into);
    this.#hostBytesRead += into.length;
    return into.length;
  }

  /** As ImageFilesystem has it. */
  realPath(path: ByteString): ResolvedPath {
    return resolvePath(this, path, true);
  }

  /** What is at `path` itself, a symlink at its end not followed; undefined where there is nothing. */
  entryAt(path: ByteString): FileAttributes | undefined {
    try {
      return this.attributes(resolvePath(this, path, false).ino);
    } catch (error) {
      if (error instanceof ErrnoError) return undefined;
      throw error;
    }
  }

  #place(path: ByteString): Place {
    const directories = [rootIno];
    const names = namesOf(path).reverse();
    let symlinks = 0;
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      const parent = directories.at(-1)!;
      if (name === "..") {
        if (directories.length > 1) directories.pop();
        continue;
      }
      const found = this.lookup(parent, name);
      const type = found === 0 ? undefined : this.attributes(found).mode & fileTypeMask;
      if (type === fileTypes.symlink) {
        if (++symlinks > symlinksMax)
          throw new ErrnoError("ELOOP", `more than ${symlinksMax} symbolic links on the way`);
        const target = this.readLink(found);
        if (target.startsWith("/")) directories.length = 1;
        names.push(...namesOf(target).reverse());
      } else if (names.length === 0) return { parent, name };
      else if (type === fileTypes.directory) directories.push(found);
      else if (type === undefined) {
        const made = this.#add({ mode: fileTypes.directory | 0o755 });
        this.#cover({ parent, name }, made);
        directories.push(made);
      } else throw new ErrnoError("ENOTDIR", `${displayText(name)} is not a directory`);
    }
    throw new ErrnoError("EINVAL", `${displayText(path)} is a directory that others lie on`);
  }

  #requireDirectory(place: Place, path: ByteString): void {
    const { mode } = this.attributes(this.lookup(place.parent, place.name));
    if ((mode & fileTypeMask) !== fileTypes.directory)
      throw new ErrnoError("ENOTDIR", `${displayText(path)} is not a directory`);
  }

  #cover({ parent, name }: Place, ino: number): void {
    const names = this.#covered.get(parent);
    if (names) names.set(name, ino);
    else this.#covered.set(parent, new Map([[name, ino]]));
  }

  #add(node: HostFile | MadeDirectory): number {
    const known = node instanceof HostFile ? this.#hostInodes.get(node.path) : undefined;
    if (known !== undefined) return known;
    const ino = this.imageInodes + this.#nodes.push(node);
    if (node instanceof HostFile) this.#hostInodes.set(node.path, ino);
    return ino;
  }

  #node(ino: number): HostFile | MadeDirectory {
    const node = this.#nodes[ino - this.imageInodes - 1];
    if (!node) throw new ErrnoError("ESTALE", `there is no inode ${ino} in this tree`);
    return node;
  }
}

function namesOf(path: ByteString): ByteString[] {
  return path.split("/").filter((name) => name !== "" && name !== ".") as ByteString[];
}
