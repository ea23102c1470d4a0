import { type ByteString, displayText } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import type { EntryType } from "./layer-index.js";
import type { TarPosition } from "./tar-position.js";

/** A name for an error or warning: quoted, and cut where it would fill the screen. */
export function shownName(name: ByteString): string {
  const shown = displayText(name);
  return `"${shown.length > 120 ? `${shown.slice(0, 120)}...` : shown}"`;
}

const whiteoutPrefix = ".wh.";

/** Throws LIMIT_EXCEEDED for a path, or a part of one, that Linux cannot have. */
export function checkPath(path: ByteString, position: TarPosition): void {
  if (path.length > limits.pathBytesMax) {
    throw position.limit(
      `path ${shownName(path)} has ${path.length} bytes, more than the ${limits.pathBytesMax} of a path`,
    );
  }
  if (path.length <= limits.nameBytesMax) return;
  for (let start = 0; start < path.length; ) {
    let slash = path.indexOf("/", start);
    if (slash === -1) slash = path.length;
    // A whiteout's name is that of what it hides, and may be as long.
    const prefixBytes = path.startsWith(whiteoutPrefix, start) ? whiteoutPrefix.length : 0;
    if (slash - start - prefixBytes > limits.nameBytesMax) {
      throw position.limit(
        `a name in ${shownName(path)} has ${slash - start} bytes, more than the ${limits.nameBytesMax} of a file name`,
      );
    }
    start = slash + 1;
  }
}

/** Throws LAYER_CORRUPT for a link to nowhere, LIMIT_EXCEEDED for a target that is too long. */
export function checkLinkTarget(
  path: ByteString,
  type: EntryType,
  target: ByteString,
  position: TarPosition,
): void {
  if (target === "") throw position.corrupt(`${type} ${shownName(path)} has no target`);
  const bytesMax = type === "symlink" ? limits.symlinkBytesMax : limits.pathBytesMax;
  if (target.length > bytesMax) {
    throw position.limit(
      `the target of ${type} ${shownName(path)} has ${target.length} bytes, more than ${bytesMax}`,
    );
  }
}
