import type { Archive } from "../archive/archive.js";
import { byteStringFromText, parseDisplayText } from "../base/byte-string.js";
import { isSkimError } from "../base/errors.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { OpenedImage } from "../mount/image-or-archive.js";
import { openImageOrArchive } from "../mount/image-or-archive.js";
import type { CommandContext } from "./command-context.js";

export interface NamedArchive extends OpenedImage {
  readonly filesystem: ImageFilesystem;
}

/** Opens what a command that looks into an archive was given, for the time of `use`. */
export async function withArchiveNamed<T>(
  name: string,
  context: CommandContext,
  use: (opened: NamedArchive) => Promise<T> | T,
): Promise<T> {
  const opened = await openImageOrArchive(name, {
    settings: context.settings,
    progress: context.progress,
    logger: context.logger,
    signal: context.signal,
  });
  try {
    return await use({
      ...opened,
      filesystem: new ImageFilesystem({ archive: opened.archive, content: undefined }),
    });
  } finally {
    await opened.archive.close();
  }
}

/**
 * The inode at a path from the command line: the path as it was typed or, where there is none, as `ls` shows names that are no
 * text (with \\xNN). Throws NOT_FOUND and what resolvePath throws.
 */
export function resolveTyped(
  filesystem: ImageFilesystem,
  typed: string,
  options: { followLast?: boolean } = {},
): number {
  try {
    return filesystem.resolvePath(byteStringFromText(typed), options);
  } catch (error) {
    if (!isSkimError(error, "NOT_FOUND") || !typed.includes("\\")) throw error;
    return filesystem.resolvePath(parseDisplayText(typed), options);
  }
}

/** What ls and stat print of an inode with --json. Names that are not UTF-8 are shown with \xNN. */
export function describeInode(
  archive: Archive,
  ino: number,
  shownPath: string,
  shownTarget: string | undefined,
) {
  const inode = archive.inode(ino);
  return {
    path: shownPath,
    inode: ino,
    type: inode.type,
    mode: (inode.mode & 0o7777).toString(8).padStart(4, "0"),
    uid: inode.uid,
    gid: inode.gid,
    nlink: inode.nlink,
    size: inode.size,
    mtime: { sec: inode.mtimeSec, nsec: inode.mtimeNsec },
    ...(shownTarget === undefined ? {} : { target: shownTarget }),
    ...(inode.type === "character" || inode.type === "block"
      ? { device: [inode.deviceMajor, inode.deviceMinor] }
      : {}),
  };
}
