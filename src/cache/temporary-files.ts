/** What processes that were killed while they wrote have left in directories where files are written beside their names, and renamed. */
import { lstat, rm } from "node:fs/promises";
import path from "node:path";
import { type LayerStock, namesIn, type StoredLayer } from "./stored-layer.js";

/** A layer of hundreds of GB may be indexed for an hour, but its index is written in the last seconds of it. */
const ageMsMax = 60 * 60 * 1000;

export class TemporaryFiles implements LayerStock {
  readonly #directories: readonly string[];

  /** Looked through with all that is below them. */
  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  async diskBytes(): Promise<number> {
    return 0;
  }

  async list(): Promise<StoredLayer[]> {
    return [];
  }

  async removeLeftovers(nowMs: number): Promise<number> {
    let removed = 0;
    for (const directory of this.#directories) removed += await removeBelow(directory, nowMs);
    return removed;
  }
}

async function removeBelow(directory: string, nowMs: number): Promise<number> {
  let removed = 0;
  for (const name of await namesIn(directory)) {
    const file = path.join(directory, name);
    const found = await lstat(file).catch(() => undefined);
    if (found?.isDirectory()) removed += await removeBelow(file, nowMs);
    if (!found?.isFile() || !/\.tmp(-[0-9a-f]+)?$/.test(name) || nowMs - found.mtimeMs <= ageMsMax) continue;
    await rm(file, { force: true });
    removed++;
  }
  return removed;
}
