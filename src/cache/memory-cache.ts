import { LRUCache } from "lru-cache";

/** Verified spans in memory by their index in the archive, the least recently used dropped first. */
export class MemoryCache {
  readonly #spans: LRUCache<number, Uint8Array> | undefined;

  /** With `bytesMax` 0 nothing is kept. */
  constructor(bytesMax: number) {
    this.#spans =
      bytesMax > 0
        ? new LRUCache({ maxSize: bytesMax, sizeCalculation: (bytes) => bytes.byteLength })
        : undefined;
  }

  get(span: number): Uint8Array | undefined {
    return this.#spans?.get(span);
  }

  /** A span larger than the whole cache is not kept. */
  set(span: number, bytes: Uint8Array): void {
    this.#spans?.set(span, bytes);
  }

  clear(): void {
    this.#spans?.clear();
  }
}
