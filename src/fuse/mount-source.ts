/** Only people read it. Escaped for libfuse it is at most twice as long, and still fits beside the other options. */
const sourceBytesMax = 256;

/** What `mount` and `df` show of `fsName`: without NUL and newline, which would end it, and cut to a length that every way of mounting takes. */
export function mountSource(fsName: string): string {
  return Buffer.from(fsName)
    .subarray(0, sourceBytesMax)
    .toString("utf8")
    .replace(/[\0\n]/g, "?");
}
