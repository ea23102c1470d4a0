/** Checks the section startSpans (FORMAT.md), and gives it as numbers. */
import { recordBytes } from "./records.js";
import type { Refuse } from "./refusal.js";
import type { LoadedSections } from "./section-bytes.js";

/** Undefined where the archive has no such section. Throws ARCHIVE_DAMAGED. */
export function checkStartSpans(
  sections: LoadedSections,
  spanCount: number,
  refuse: Refuse,
): Uint32Array | undefined {
  if (!sections.startSpans) return undefined;
  const { bytes, view } = sections.startSpans;
  const count = bytes.length / recordBytes.startSpans;
  // Before anything is allocated for them: no span is there twice.
  if (count > spanCount) throw refuse("startSpans", undefined, `it names ${count} spans of ${spanCount}`);
  const spans = new Uint32Array(count);
  const seen = new Uint8Array(spanCount);
  for (let i = 0; i < count; i++) {
    const span = view.getUint32(i * recordBytes.startSpans, true);
    if (span >= spanCount) throw refuse("startSpans", i, `span is ${span} of ${spanCount}`);
    if (seen[span] !== 0) throw refuse("startSpans", i, `span ${span} is there twice`);
    seen[span] = 1;
    spans[i] = span;
  }
  return spans;
}
