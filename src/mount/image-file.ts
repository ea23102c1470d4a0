/**
 * Reads a small file of a mounted image. Where it is, the archive says, symlinks resolved inside the image; its bytes come through the
 * mount, and so through the server's cache. A path of an image must never be opened as it stands: `/etc/passwd -> /etc/shadow` would
 * be read from the host.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { Archive } from "../archive/archive.js";
import { byteStringFromText, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { ResolvedPath } from "../filesystem/path-walk.js";

/** An accounts file of a hundred thousand users has 6 MB. */
export const fileBytesMax = 16 * 1024 * 1024;

/**
 * The text of the file at `path` (absolute) of the image that is mounted at `lower`; undefined where there is no regular file.
 * Must not be called by the process that serves the mount. Throws LIMIT_EXCEEDED, LOCAL_IO.
 */
export async function readImageFile(
  archive: Archive,
  lower: string,
  path: string,
): Promise<string | undefined> {
  const found = findFile(archive, path);
  if (!found) return undefined;
  if (archive.inode(found.ino).size > fileBytesMax) {
    throw new SkimError(
      "LIMIT_EXCEEDED",
      `${path} of the image has ${archive.inode(found.ino).size} bytes; at most ${fileBytesMax} are read`,
    );
  }
  const file = Buffer.concat([Buffer.from(lower), bytesOf(found.path)]);
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      return await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `cannot read ${displayText(found.path)} of the image`, { cause });
  }
}

/** Undefined for all that is no regular file: missing, a loop of symlinks, a directory. */
export function findFile(archive: Archive, path: string): ResolvedPath | undefined {
  try {
    const found = new ImageFilesystem({ archive, content: undefined }).realPath(byteStringFromText(path));
    return archive.inode(found.ino).type === "file" ? found : undefined;
  } catch (error) {
    if (error instanceof ErrnoError) return undefined;
    throw error;
  }
}
