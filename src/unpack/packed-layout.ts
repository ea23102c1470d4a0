import type { LayerEntry, LayerExtent } from "../layer/layer-index.js";
import { OffsetTable } from "./offset-table.js";

/**
 * Where the data of a layer's files lie in its packed file: one after the other in the order of the layer, the larger ones each at the start of a
 * block. Follows from the entries alone, so it is never stored.
 *
 * One file for a layer and not one for each file of it: nothing of the layer's names is ever looked up in the store, it is written in one go, and
 * removed by two calls. Blocks can be shared from it (FICLONERANGE) but for a file's last, incomplete one: 4 KiB a file that are copied.
 */
export class PackedLayout {
  readonly #places = new OffsetTable();
  #end = 0;

  /** Of a layer whose entries are all known. */
  static of(entries: readonly LayerEntry[]): PackedLayout {
    const layout = new PackedLayout();
    for (const entry of entries) for (const extent of entry.extents) layout.place(extent);
    return layout;
  }

  /** The place of the next extent, in the order of the layer. */
  place(extent: LayerExtent): number {
    if (extent.length === 0) return this.#end;
    const offset = extent.length < BLOCK_BYTES ? this.#end : roundUp(this.#end);
    this.#places.add(extent.layerOffset, offset);
    this.#end = offset + extent.length;
    return offset;
  }

  /** The place of an extent that was placed. */
  offsetOf(extent: LayerExtent): number {
    return this.#places.get(extent.layerOffset);
  }

  /** Of the packed file so far. */
  get bytes(): number {
    return this.#end;
  }
}

/** Of the filesystems that can share blocks; native/unpack/tree-writer.cc counts on it. */
const BLOCK_BYTES = 4096;

function roundUp(offset: number): number {
  return Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES;
}
