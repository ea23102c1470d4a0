import { systemErrorCode } from "../base/errors.js";

/** Bytes that are not what the archive names, as far as JavaScript sees it. */
export class SpanDamage extends Error {}

/** The decoder's word that the bytes were wrong, or too few. */
export function isDamage(error: unknown): boolean {
  const code = systemErrorCode(error);
  return error instanceof SpanDamage || code === "SPAN_CORRUPT" || code === "SPAN_DIGEST";
}
