import type { LayerSink } from "../layer/index-layer.js";
import type { LayerEntry, LayerExtent } from "../layer/layer-index.js";
import type { NativeBinding } from "../native/binding.js";

/** Decides where the bytes of files go. Extents are asked for once each, in the order of the layer. */
export interface Placement {
  /** The number of the file that takes the extent (never an empty one), and the extent's place in it. */
  place(entry: LayerEntry, extent: LayerExtent): { readonly number: number; readonly offset: number };
}

/** Writes the data of a layer's files, and nothing else of the layer, into numbered files of a directory while the layer is read. */
export class ContentSink implements LayerSink {
  readonly #native: Pick<NativeBinding, "stageBytes">;
  readonly #directory: number;
  readonly #placement: Placement;
  /** The extent that comes next or is under way: extent `#extent` of entry `#entry`. */
  #entry = 0;
  #extent = 0;
  #place: { readonly number: number; readonly offset: number } | undefined;
  /** Writes happen one after the other, so that the checksum has an order. */
  #crc: Promise<number> = Promise.resolve(0);

  /** `directory`: a descriptor, open until the pass has ended. */
  constructor(native: Pick<NativeBinding, "stageBytes">, directory: number, placement: Placement) {
    this.#native = native;
    this.#directory = directory;
    this.#placement = placement;
  }

  /** CRC-32 of all file data in their order, when everything is written. */
  get crc32(): Promise<number> {
    return this.#crc;
  }

  async write(output: Uint8Array, offset: number, entries: readonly LayerEntry[]): Promise<void> {
    const ranges = this.#rangesIn(offset, offset + output.length, entries);
    if (ranges.length === 0) return;
    this.#crc = this.#crc.then((crc) =>
      this.#native.stageBytes(this.#directory, output, Float64Array.from(ranges), crc),
    );
    await this.#crc;
  }

  /** What of the layer's bytes from `start` to `end` belongs to files, as stageBytes takes it. */
  #rangesIn(start: number, end: number, entries: readonly LayerEntry[]): number[] {
    const ranges: number[] = [];
    while (this.#entry < entries.length) {
      const extent = entries[this.#entry]!.extents[this.#extent];
      if (extent === undefined) {
        this.#entry++;
        this.#extent = 0;
        continue;
      }
      if (extent.length === 0) {
        this.#extent++;
        continue;
      }
      if (extent.layerOffset >= end) break;
      this.#place ??= this.#placement.place(entries[this.#entry]!, extent);
      const extentEnd = extent.layerOffset + extent.length;
      const from = Math.max(start, extent.layerOffset);
      const to = Math.min(end, extentEnd);
      const { number, offset } = this.#place;
      if (to > from) ranges.push(number, offset + from - extent.layerOffset, from - start, to - from);
      if (extentEnd > end) break;
      this.#extent++;
      this.#place = undefined;
    }
    return ranges;
  }
}
