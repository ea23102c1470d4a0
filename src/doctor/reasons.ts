/** Why a path leads to no file that can be used, in words, and in the kernel's. */
import { type ByteString, displayText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { resolvePath } from "../filesystem/path-walk.js";
import { directoryOf, type NoFile } from "../program/program-image.js";
import { mayAccess, ownerText } from "./access.js";
import type { Subject } from "./subject.js";

/** strerror(3) of glibc; execve(2) of a directory is EACCES. */
const kernelWords: Readonly<Record<NoFile, string>> = {
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  EISDIR: "permission denied",
  EACCES: "permission denied",
  ELOOP: "too many levels of symbolic links",
  ENAMETOOLONG: "file name too long",
  EINVAL: "invalid argument",
  ESTALE: "stale file handle",
};

/** As programs print it: strerror(3) has a capital. */
export function libraryWords(why: NoFile): string {
  const words = kernelWords[why];
  return words[0]!.toUpperCase() + words.slice(1);
}

/** `(the kernel will say "no such file or directory")` */
export function kernelSays(why: NoFile | "ENOEXEC"): string {
  return `(the kernel will say "${why === "ENOEXEC" ? "exec format error" : kernelWords[why]}")`;
}

/** What stands in the way of `path`: `not in the image`, `a symlink to /x, which is not in the image`, `on the way /x is not a directory`, ... */
export function whyNoFile(subject: Subject, path: ByteString, why: NoFile): string {
  switch (why) {
    case "ENOENT":
      return missingText(subject, path);
    case "ENOTDIR":
      return "something on the way to it is not a directory";
    case "EISDIR":
      return "a directory";
    case "ELOOP":
      return "symlinks on the way lead in a circle, or there are more than 40";
    case "EACCES":
      return deniedText(subject, path);
    default:
      return kernelWords[why];
  }
}

/** For a dangling symlink, where it leads. */
function missingText(subject: Subject, path: ByteString): string {
  try {
    const { ino } = resolvePath(subject.tree, path, false);
    if ((subject.tree.attributes(ino).mode & fileTypeMask) === fileTypes.symlink)
      return `a symlink to ${displayText(subject.tree.readLink(ino))}, which is not in the image`;
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
  }
  const link = symlinkOnTheWay(subject, path);
  return link ? `not in the image (${link})` : "not in the image";
}

/** The nearest directory above that is a symlink to nowhere. */
function symlinkOnTheWay(subject: Subject, path: ByteString): string | undefined {
  for (let at = directoryOf(path); at !== "/"; at = directoryOf(at)) {
    const entry = subject.tree.entryAt(at);
    if (!entry) continue;
    if ((entry.mode & fileTypeMask) !== fileTypes.symlink) return undefined;
    return `${displayText(at)} is a symlink to ${displayText(subject.tree.readLink(entry.ino))}`;
  }
  return undefined;
}

/** Which directory may not be searched, or whose bits are missing on the file itself. */
function deniedText(subject: Subject, path: ByteString): string {
  const { tree, access, userText } = subject;
  let shut: string | undefined;
  const watched = {
    attributes: (ino: number) => tree.attributes(ino),
    readLink: (ino: number) => tree.readLink(ino),
    lookup: (parent: number, name: ByteString) => tree.lookup(parent, name),
    search(directory: number, name: ByteString) {
      const found = tree.attributes(directory);
      if (!mayAccess(access, found, "execute"))
        shut ??= `the directory that has ${displayText(name)} may not be searched by ${userText} (${ownerText(found)})`;
    },
  };
  try {
    const file = tree.attributes(resolvePath(watched, path, true).ino);
    if (shut) return shut;
    if ((file.mode & fileTypeMask) !== fileTypes.file) return "neither a file nor a directory";
    return `not executable for ${userText} (${ownerText(file)})`;
  } catch (error) {
    if (error instanceof ErrnoError) return shut ?? "not to be reached";
    throw error;
  }
}
