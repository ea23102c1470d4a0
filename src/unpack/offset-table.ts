import { invariant } from "../base/errors.js";

/**
 * Numbers by places in a layer: for each piece of file data its offset in the uncompressed layer, and where it has been put. Pieces come in the
 * order of the layer, so that two growing arrays and a binary search do; a layer can have millions of them.
 */
export class OffsetTable {
  #offsets = new Float64Array(1024);
  #values = new Float64Array(1024);
  #length = 0;

  /** `layerOffset` is greater than that of any call before. */
  add(layerOffset: number, value: number): void {
    invariant(
      this.#length === 0 || this.#offsets[this.#length - 1]! < layerOffset,
      "pieces of a layer come in their order",
    );
    if (this.#length === this.#offsets.length) {
      this.#offsets = doubled(this.#offsets);
      this.#values = doubled(this.#values);
    }
    this.#offsets[this.#length] = layerOffset;
    this.#values[this.#length] = value;
    this.#length++;
  }

  /** What was added for exactly `layerOffset`. */
  get(layerOffset: number): number {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#offsets[middle]! < layerOffset) low = middle + 1;
      else high = middle;
    }
    invariant(low < this.#length && this.#offsets[low] === layerOffset, "every piece of a layer has a place");
    return this.#values[low]!;
  }
}

function doubled(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
