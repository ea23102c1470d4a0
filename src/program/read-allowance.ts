/**
 * How much is fetched to find out what a start needs. Counted are compressed bytes of whole fetches, whether or not a cache has them already: what may be
 * read must depend on nothing but the archive, or two indexings of one image would differ.
 */
import type { Archive } from "../archive/archive.js";
import { rangeLength } from "../base/byte-range.js";
import { compressedRange, nextRestart } from "../content/fetch-plan.js";
import { spansOfRange } from "./span-ranges.js";

export type AllowanceArchive = Pick<
  Archive,
  "layers" | "span" | "spanRecords" | "spanIndexAt" | "restartSpan" | "window" | "extents"
>;

export class ReadAllowance {
  readonly #archive: AllowanceArchive;
  readonly #counted = new Set<number>();
  #bytesLeft: number;

  constructor(archive: AllowanceArchive, bytesMax: number) {
    this.#archive = archive;
    this.#bytesLeft = bytesMax;
  }

  /** True where the piece costs nothing more or what is left; it is counted then. */
  take(ino: number, offset: number, length: number): boolean {
    const archive = this.#archive;
    const starts = new Set<number>();
    let bytes = 0;
    for (const { layer, span } of spansOfRange(archive, ino, { start: offset, end: offset + length })) {
      // A fetch goes on to the next restart point: see src/content/fetch-plan.ts.
      const start = archive.restartSpan(span);
      if (this.#counted.has(start) || starts.has(start)) continue;
      starts.add(start);
      bytes += rangeLength(
        compressedRange(archive, start, nextRestart(archive, archive.layers[layer]!, span)),
      );
    }
    if (bytes > this.#bytesLeft) return false;
    this.#bytesLeft -= bytes;
    for (const start of starts) this.#counted.add(start);
    return true;
  }
}
