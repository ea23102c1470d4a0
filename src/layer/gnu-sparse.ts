import type { LayerExtent } from "./layer-index.js";
import { decimalNumber, type PaxSparse } from "./pax.js";
import { headerNumber, TAR_BLOCK_BYTES } from "./tar-header.js";
import type { TarPosition } from "./tar-position.js";

/**
 * Sparse files: the tar stores only the pieces that are not holes, one behind the other, and a map of where they belong. The map is in
 * the header and blocks behind it (old GNU, typeflag `S`), in pax records (0.0 and 0.1), or in front of the data (1.0). All end up
 * here as a list of extents. Source: GNU tar manual, "Storing Sparse Files", and its sparse.c.
 */
export class SparseMap {
  readonly #extents: Array<{ -readonly [Key in keyof LayerExtent]: LayerExtent[Key] }> = [];
  #fileEnd = 0;
  #storedBytes = 0;

  /** `extentsMax`: how many pieces the layer may still have. */
  constructor(
    readonly fileBytes: number,
    readonly extentsMax: number,
    readonly position: TarPosition,
  ) {
    if (!(fileBytes >= 0)) throw position.corrupt("a sparse file of an impossible size");
  }

  /** Adds a piece; its layerOffset counts from the first stored byte until `place`. Pieces that touch become one. */
  add(fileOffset: number, length: number): void {
    // Also false for NaN.
    const inOrder = fileOffset >= this.#fileEnd && length >= 0 && fileOffset + length <= this.fileBytes;
    if (!inOrder) throw this.position.corrupt("a sparse map that is out of order or beyond the file's end");
    if (length === 0) return;
    const last = this.#extents.at(-1);
    if (last !== undefined && this.#fileEnd === fileOffset) {
      last.length += length;
    } else {
      if (this.#extents.length >= this.extentsMax)
        throw this.position.entriesLimit("a sparse file with too many pieces");
      this.#extents.push({ fileOffset, layerOffset: this.#storedBytes, length });
    }
    this.#fileEnd = fileOffset + length;
    this.#storedBytes += length;
  }

  /** The extents for data that begins at `layerOffset` and has `storedBytes`. Called once. */
  place(layerOffset: number, storedBytes: number): LayerExtent[] {
    if (storedBytes !== this.#storedBytes) {
      throw this.position.corrupt(
        `a sparse map of ${this.#storedBytes} bytes for a member that stores ${storedBytes}`,
      );
    }
    for (const extent of this.#extents) extent.layerOffset += layerOffset;
    return this.#extents;
  }
}

/** Which kind of map the pax records announce. Undefined for a version that nobody knows: Go reads such a file as an ordinary one. */
export function paxSparseKind(sparse: PaxSparse): "records" | "data" | undefined {
  if (sparse.major === "1" && sparse.minor === "0") return "data";
  if (sparse.major === "0" && (sparse.minor === "0" || sparse.minor === "1")) return "records";
  if (sparse.major !== "" || sparse.minor !== "") return undefined;
  // 0.0 and 0.1 have no version record.
  return sparse.blockCount !== undefined || sparse.map.length > 0 ? "records" : undefined;
}

/** Adds the pieces of a 0.0 or 0.1 map. */
export function addPaxMap(sparse: PaxSparse, map: SparseMap): void {
  const numbers = sparse.map;
  if (numbers.length % 2 !== 0 || (sparse.blockCount ?? numbers.length / 2) !== numbers.length / 2) {
    throw map.position.corrupt("a sparse map that is not as long as its header says");
  }
  for (let i = 0; i < numbers.length; i += 2) map.add(numbers[i]!, numbers[i + 1]!);
}

/** Bytes of an entry of the old format: two octal (or base-256) numbers. */
const OLD_ENTRY_BYTES = 24;

/** Adds the pieces of an old GNU header block; true where a block with more of them follows. */
export function addOldHeaderMap(block: Buffer, at: number, map: SparseMap): boolean {
  addOldEntries(block, at + 386, 4, map);
  return block[at + 482] !== 0;
}

/** Adds the pieces of a block behind an old GNU header; true where another follows. */
export function addOldExtensionMap(block: Buffer, at: number, map: SparseMap): boolean {
  addOldEntries(block, at, 21, map);
  return block[at + 504] !== 0;
}

/** An empty entry ends those of its block. */
function addOldEntries(block: Buffer, start: number, count: number, map: SparseMap): void {
  for (let at = start; at < start + count * OLD_ENTRY_BYTES; at += OLD_ENTRY_BYTES) {
    if (block[at] === 0) return;
    map.add(headerNumber(block, at, 12), headerNumber(block, at + 12, 12));
  }
}

/** A decimal number below 2^53 has 16 digits. */
const DECIMAL_BYTES_MAX = 16;

/**
 * Reads a 1.0 map block by block: the number of pieces, then offset and length of each, every number on a line; the rest
 * of the last block is padding.
 */
export class SparseDataMap {
  readonly #line = Buffer.alloc(DECIMAL_BYTES_MAX);
  #lineBytes = 0;
  /** How many numbers are still to come; undefined until the first line has said so. */
  #numbersLeft: number | undefined;
  #offset: number | undefined;
  /** Blocks of the map so far: the data begins behind them. */
  blocks = 0;

  constructor(readonly map: SparseMap) {}

  /** True when the map is complete. */
  addBlock(block: Buffer, at: number): boolean {
    this.blocks++;
    for (let i = at; i < at + TAR_BLOCK_BYTES; i++) {
      const byte = block[i]!;
      if (byte !== 0x0a) {
        if (this.#lineBytes === DECIMAL_BYTES_MAX) throw this.#malformed();
        this.#line[this.#lineBytes++] = byte;
        continue;
      }
      const value = decimalNumber(this.#line, 0, this.#lineBytes);
      if (Number.isNaN(value)) throw this.#malformed();
      this.#lineBytes = 0;
      if (this.#numbersLeft === undefined) {
        this.#numbersLeft = value * 2;
      } else if (this.#offset === undefined) {
        this.#offset = value;
        this.#numbersLeft--;
      } else {
        this.map.add(this.#offset, value);
        this.#offset = undefined;
        this.#numbersLeft--;
      }
      if (this.#numbersLeft === 0) return true;
    }
    return false;
  }

  #malformed() {
    return this.map.position.corrupt("a sparse map that is not made of numbers");
  }
}
