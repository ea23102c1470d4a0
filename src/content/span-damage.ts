import { systemErrorCode } from "../base/errors.js";

/** Bytes that are not what the archive names, as far as JavaScript sees it. */
export class SpanDamage extends Error {}

/** Bytes that were right, and gone before a reader had them: the cache's files were given up. No fault of who has sent them. */
export class SpanLost extends SpanDamage {}

/** The decoder's word that the bytes were wrong, or too few. */
export function isDamage(error: unknown): boolean {
  const code = systemErrorCode(error);
  return error instanceof SpanDamage || code === "SPAN_CORRUPT" || code === "SPAN_DIGEST";
}
