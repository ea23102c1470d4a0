/** Lists of files that a start reads, in the order of need; what is not there is left out. */
import type { ByteRange } from "../base/byte-range.js";
import type { ByteString } from "../base/byte-string.js";
import type { ImageFile, ProgramImage } from "./program-image.js";
import { joinedRanges } from "./start-ranges.js";

export interface StartFile {
  readonly file: ImageFile;
  /** Ascending, within the file. */
  readonly ranges: readonly ByteRange[];
}

/** More than any start has; a directory full of .pth files does not grow a set without end. */
const startFilesMax = 4096;

export class StartFiles {
  readonly #image: ProgramImage;
  readonly #files = new Map<number, { file: ImageFile; ranges: readonly ByteRange[] }>();

  constructor(image: ProgramImage) {
    this.#image = image;
  }

  /** Adds a file at its first need; ranges of a second one are joined to it. */
  add(file: ImageFile, ranges: readonly ByteRange[] = [{ start: 0, end: file.bytes }]): void {
    const known = this.#files.get(file.ino);
    if (!known && this.#files.size >= startFilesMax) return;
    const within = ranges.map(({ start, end }) => ({ start, end: Math.min(end, file.bytes) }));
    this.#files.set(file.ino, { file, ranges: joinedRanges([...(known?.ranges ?? []), ...within]) });
  }

  /** The file at `path`, whole or its first `bytesMax` bytes. */
  addPath(path: string, bytesMax = Number.POSITIVE_INFINITY): ImageFile | undefined {
    const { file } = this.#image.find(path as ByteString);
    if (file) this.add(file, [{ start: 0, end: Math.min(file.bytes, bytesMax) }]);
    return file;
  }

  list(): StartFile[] {
    return [...this.#files.values()];
  }
}
