import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import type { ContentLayer } from "./content-archive.js";

/** Bytes that are not what the archive names, as far as JavaScript sees it. */
export class SpanDamage extends Error {}

/** Bytes that were right, and gone before a reader had them: the cache's files were given up. No fault of who has sent them. */
export class SpanLost extends SpanDamage {}

/** The decoder's word that the bytes were wrong, or too few. */
export function isDamage(error: unknown): boolean {
  const code = systemErrorCode(error);
  return error instanceof SpanDamage || code === "SPAN_CORRUPT" || code === "SPAN_DIGEST";
}

/** Nothing has come for `span` in time. */
export function lateError(
  { digest, spanFirst }: ContentLayer,
  span: number,
  readDeadlineMs: number,
): SkimError {
  return new SkimError(
    "DEADLINE_EXCEEDED",
    `span ${span - spanFirst} of layer ${digest}: not fetched within ${readDeadlineMs} ms; check the registry and the network`,
  );
}

export function unexpectedError({ digest }: ContentLayer, cause: unknown): SkimError {
  return new SkimError("INTERNAL", `layer ${digest} cannot be fetched: ${describeError(cause)}`, { cause });
}

export function nobodyWaits(): SkimError {
  return new SkimError("CANCELLED", "fetching from the registry: nobody waits for it any more");
}
