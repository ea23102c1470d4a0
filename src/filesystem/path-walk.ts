/**
 * Path resolution as path_resolution(7) has it, in a process whose root directory is the image's.
 *
 * A stack of directories stands for where the walk is: `..` pops it (and stays at the root), an absolute symlink empties it. What is
 * left of the path, symlink targets put in front, is a list of names, the next one last. Work is bounded: a path and each of at most 40
 * targets has at most 4096 bytes.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import { ErrnoError } from "./errno-error.js";
import { type FileAttributes, fileTypeMask, fileTypes, rootIno } from "./file-attributes.js";

/** MAXSYMLINKS of the kernel (include/linux/namei.h). */
const symlinksMax = 40;

/** What a walk asks of ImageFilesystem. */
interface WalkedFilesystem {
  attributes(ino: number): FileAttributes;
  lookup(parent: number, name: ByteString): number;
  readLink(ino: number): ByteString;
  /** Called before `name`, which may be `.` or `..`, is looked up in a directory; throws where that may not be. */
  search?(directory: number, name: ByteString): void;
}

/** Where a path leads. */
export interface ResolvedPath {
  readonly ino: number;
  /** Absolute, without symlinks, `.`, `..` and `//`. */
  readonly path: ByteString;
}

/** See ImageFilesystem.resolvePath. */
export function resolvePath(
  filesystem: WalkedFilesystem,
  path: ByteString,
  followLast: boolean,
): ResolvedPath {
  const fail = (name: "ENOENT" | "ENOTDIR" | "ELOOP" | "ENAMETOOLONG", found: string) =>
    new ErrnoError(name, `${displayText(path)} in the image: ${found}`);
  if (path.length === 0) throw fail("ENOENT", "an empty path names nothing");
  if (path.length > limits.pathBytesMax)
    throw fail("ENAMETOOLONG", `longer than ${limits.pathBytesMax} bytes`);

  const directories = [{ ino: rootIno, name: "" as ByteString }];
  const pathOf = (last: ByteString[] = []) =>
    ([...directories.map((directory) => directory.name), ...last].join("/") || "/") as ByteString;
  const names = componentsOf(path).reverse();
  let symlinks = 0;
  for (let name = names.pop(); name !== undefined; name = names.pop()) {
    const parent = directories.at(-1)!.ino;
    filesystem.search?.(parent, name);
    if (name === ".." && directories.length > 1) directories.pop();
    if (name === "." || name === "..") continue;
    if (name.length > limits.nameBytesMax)
      throw fail("ENAMETOOLONG", `a name in it is longer than ${limits.nameBytesMax} bytes`);
    const ino = filesystem.lookup(parent, name);
    if (ino === 0) throw fail("ENOENT", `there is no ${displayText(name)}`);
    const isLast = names.length === 0;
    const type = filesystem.attributes(ino).mode & fileTypeMask;
    if (type === fileTypes.directory) {
      directories.push({ ino, name });
    } else if (type === fileTypes.symlink && (!isLast || followLast)) {
      if (++symlinks > symlinksMax) throw fail("ELOOP", `more than ${symlinksMax} symbolic links on the way`);
      const target = filesystem.readLink(ino);
      if (target.startsWith("/")) directories.length = 1;
      names.push(...componentsOf(target).reverse());
    } else if (isLast) {
      return { ino, path: pathOf([name]) };
    } else {
      throw fail("ENOTDIR", `${displayText(name)} is not a directory`);
    }
  }
  return { ino: directories.at(-1)!.ino, path: pathOf() };
}

/** The names of a path. A trailing slash counts as a last `.`: what stands before it must be a directory. */
function componentsOf(path: ByteString): ByteString[] {
  const names = path.split("/").filter((name) => name !== "") as ByteString[];
  if (path.endsWith("/")) names.push("." as ByteString);
  return names;
}
