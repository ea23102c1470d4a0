import { LRUCache } from "lru-cache";

/** More than any archive has: FORMAT.md counts spans in 32 bits. */
const spansMax = 2 ** 32;

/** Verified spans in memory, the least recently used dropped first, whichever image they are of. */
export class MemoryCache {
  readonly #spans: LRUCache<number, Uint8Array> | undefined;
  #parts = 0;

  /** With `bytesMax` 0 nothing is kept. */
  constructor(bytesMax: number) {
    this.#spans =
      bytesMax > 0
        ? new LRUCache({ maxSize: bytesMax, sizeCalculation: (bytes) => bytes.byteLength })
        : undefined;
  }

  /** For the spans of one more archive. */
  part(): MemoryPart {
    return new MemoryPart(this.#spans, this.#parts++ * spansMax);
  }
}

/** Of one archive: spans by their index in it. */
export class MemoryPart {
  readonly #spans: LRUCache<number, Uint8Array> | undefined;
  readonly #firstKey: number;

  constructor(spans: LRUCache<number, Uint8Array> | undefined, firstKey: number) {
    this.#spans = spans;
    this.#firstKey = firstKey;
  }

  get(span: number): Uint8Array | undefined {
    return this.#spans?.get(this.#firstKey + span);
  }

  /** A span larger than the whole cache is not kept. */
  set(span: number, bytes: Uint8Array): void {
    this.#spans?.set(this.#firstKey + span, bytes);
  }

  clear(): void {
    const isOurs = (key: number) => key >= this.#firstKey && key < this.#firstKey + spansMax;
    for (const key of this.#spans?.keys() ?? []) if (isOurs(key)) this.#spans?.delete(key);
  }
}
