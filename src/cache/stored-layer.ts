/** What eviction and `skim cache ls` know of a layer on disk, whichever store keeps it. */
import { readdir } from "node:fs/promises";
import { systemErrorCode } from "../base/errors.js";
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

/** Unit of st_blocks (stat(2)). */
export const blockBytes = 512;

/** Sorted; nothing where there is no such directory. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
}
