/** What eviction and `skim cache ls` know of a layer on disk, whichever store keeps it. */
import type { Removal } from "./layer-eviction.js";

export interface StoredLayer {
  /** `spans`: by the digest of the blob, what was read of it. `extracted`: by diffId, whole, for `skim unpack`. */
  readonly kind: "spans" | "extracted";
  readonly digest: string;
  /** Blocks that its files take, st_blocks. What they share with other files (reflinks) is counted all the same. */
  readonly diskBytes: number;
  /** Milliseconds since 1970; about a minute coarse. */
  readonly lastUsedMs: number;
  /** A process has it open. */
  readonly inUse: boolean;
  /** Removes it unless somebody uses it. Its space is free afterwards. */
  remove(): Promise<Removal>;
}

/** Layers of one kind in a cache directory. */
export interface LayerStock {
  list(): Promise<StoredLayer[]>;
  /** Removes what processes that were killed have left. `nowMs`: since 1970. Resolves to the number of files and directories that went. */
  removeLeftovers(nowMs: number): Promise<number>;
}
