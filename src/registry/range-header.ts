import type { ByteRange } from "../base/byte-range.js";

/**
 * The Range header of a request (RFC 9110 14.2), as a server reads it: `bytes=first-last`, `bytes=first-` or `bytes=-count`.
 *
 * Resolves against a body of `size` bytes. Undefined: send the whole body, because there is no range, or one that a server may
 * ignore (other units, several ranges, bad syntax). "unsatisfiable": answer 416.
 */
export function parseRangeHeader(
  header: string | undefined,
  size: number,
): ByteRange | "unsatisfiable" | undefined {
  const found = /^\s*bytes\s*=\s*(\d*)-(\d*)\s*$/i.exec(header ?? "");
  if (!found || (found[1] === "" && found[2] === "")) return undefined;
  if (found[1] === "") {
    const count = Number(found[2]);
    if (count === 0 || size === 0) return "unsatisfiable";
    return { start: Math.max(0, size - count), end: size };
  }
  const start = Number(found[1]);
  const last = found[2] === "" ? size - 1 : Number(found[2]);
  if (found[2] !== "" && last < start) return undefined;
  if (start >= size) return "unsatisfiable";
  return { start, end: Math.min(last + 1, size) };
}
