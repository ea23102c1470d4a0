/** Bytes from `start` (in) to `end` (out) of some blob, file or layer. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export function rangeLength(range: ByteRange): number {
  return range.end - range.start;
}
