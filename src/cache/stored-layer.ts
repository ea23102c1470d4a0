/** What eviction and `skim cache ls` know of a layer on disk, whichever store keeps it. */
import { lstat, readdir } from "node:fs/promises";
import path from "node:path";
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
  /** The sum of what `list` would say, for a small part of its price. */
  diskBytes(): Promise<number>;
  list(): Promise<StoredLayer[]>;
  /** Removes what processes that were killed have left. `nowMs`: since 1970. Resolves to the number of files and directories that went. */
  removeLeftovers(nowMs: number): Promise<number>;
}

/** Unit of st_blocks (stat(2)). */
export const blockBytes = 512;

/** Of all files right in a directory. */
export async function diskBytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await namesIn(directory)) {
    const found = await lstat(path.join(directory, name)).catch(() => undefined);
    bytes += (found?.blocks ?? 0) * blockBytes;
  }
  return bytes;
}

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
