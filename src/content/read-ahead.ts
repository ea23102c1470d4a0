/**
 * Read-ahead for those who read on: it goes by spans that are touched for the first time, and asks for the next ones before they are.
 *
 * A touch right behind an earlier one, or within what was asked for, continues a stream; each time half of its window is used up the window doubles and
 * is filled again. A touch elsewhere begins another stream, with no window but the one it is given: readers that jump get nothing ahead that costs anybody
 * time. Streams go through files, since the files of a layer follow each other: a walk over a directory is as sequential as a long file.
 */
import type { ContentLayer } from "./content-archive.js";

/** Spans. The first window is small, as two touches in a row prove little; the largest, about 6 MB compressed, covers 48 ms at 1 Gbit/s. */
const windowFirst = 2;
const windowMax = 16;
/** Readers that are told apart. Beyond them the one that has been still for longest is forgotten. */
const streamsMax = 32;

interface Stream {
  /** The span behind the last that was touched. */
  next: number;
  /** The span behind the last that was asked for; `next` where nothing was. */
  end: number;
  window: number;
}

export class ReadAhead {
  /** The one that was touched last stands last. */
  readonly #streams: Stream[] = [];

  /**
   * The spans `first` to `last` are touched for the first time, together: that a read is long says nothing of the next one. Returns the spans that should
   * be asked for now: `start` (in) to `end` (out), often none. `firstWindow`: spans to ask for behind what continues nothing.
   */
  touched(
    { first, last }: { readonly first: number; readonly last: number },
    layer: ContentLayer,
    firstWindow: number,
  ): { readonly start: number; readonly end: number; readonly isContinued: boolean } {
    const { stream, isContinued } = this.#take(first, Math.min(firstWindow, windowMax));
    stream.next = last + 1;
    stream.end = Math.max(stream.end, stream.next);
    const start = stream.end;
    if (stream.end - stream.next <= stream.window / 2) {
      stream.end = Math.min(stream.next + stream.window, layer.spanFirst + layer.spanCount);
      stream.window = Math.min(stream.window * 2, windowMax);
    }
    return { start, end: Math.max(start, stream.end), isContinued };
  }

  /** The stream that `span` continues, or a new one; it is now the last. */
  #take(span: number, firstWindow: number): { readonly stream: Stream; readonly isContinued: boolean } {
    const position = this.#streams.findIndex(({ next, end }) => span >= next && span <= end);
    const [found] = position < 0 ? [] : this.#streams.splice(position, 1);
    const stream = found ?? { next: span, end: span, window: firstWindow };
    if (found && found.window === 0) found.window = windowFirst;
    if (this.#streams.length >= streamsMax) this.#streams.shift();
    this.#streams.push(stream);
    return { stream, isContinued: found !== undefined };
  }
}
