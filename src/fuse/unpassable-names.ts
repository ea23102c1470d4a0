import { type ByteString, displayText, textOf } from "../base/byte-string.js";
import type { Logger } from "../base/logger.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import type { ImageFilesystem } from "../filesystem/image-filesystem.js";
import { isPassable } from "./fuse-native-operations.js";

/** Looked at without a pause: about a millisecond, so that requests do not wait. */
const namesPerTurn = 1000;

/**
 * Logs one line that counts the names and symlink targets which the fuse-native engine cannot pass on, if there are any. Goes through the
 * whole image, in small steps.
 */
export async function warnOfUnpassableNames(
  filesystem: ImageFilesystem,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  let names = 0;
  let targets = 0;
  let example: ByteString | undefined;
  let seen = 0;
  for (let ino = 1; ino <= filesystem.inodeCount; ino++) {
    const type = filesystem.attributes(ino).mode & fileTypeMask;
    if (type === fileTypes.symlink && !passes(filesystem.readLink(ino))) targets++;
    if (type === fileTypes.directory)
      for (const { name } of filesystem.readDirectory(ino)) {
        if (!passes(name)) {
          names++;
          example ??= name;
        }
        if (++seen % namesPerTurn === 0) await new Promise(setImmediate);
        if (signal.aborted) return;
      }
  }
  if (names + targets > 0)
    logger.warn(
      { names, targets, example: example === undefined ? undefined : displayText(example) },
      "names that are not UTF-8 are left out and such symlinks cannot be read, because fuse-native cannot pass them on; the native engine can",
    );
}

function passes(name: ByteString): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: every ASCII character is meant
  if (/^[\x00-\x7f]*$/.test(name)) return true;
  const text = textOf(name);
  return text !== undefined && isPassable(text);
}
