import { invariant } from "./errors.js";

/** Bytes from `start` (in) to `end` (out) of some blob, file or layer. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export function byteRange(start: number, end: number): ByteRange {
  invariant(Number.isSafeInteger(start) && Number.isSafeInteger(end), "a byte range has whole numbers");
  invariant(start >= 0 && end >= start, "a byte range has 0 <= start <= end");
  return { start, end };
}

export function rangeLength(range: ByteRange): number {
  return range.end - range.start;
}
