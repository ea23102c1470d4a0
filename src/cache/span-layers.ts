/** The layers in the span cache, as a process finds them that knows of no archive: everything is said by their maps. */
import { stat } from "node:fs/promises";
import path from "node:path";
import { isDigest } from "../image/digest.js";
import {
  type EvictionNative,
  isLayerInUse,
  readMapFile,
  removeEmptyDirectory,
  removeUnusedLayer,
} from "./layer-eviction.js";
import { type LayerFileNames, layerFileNames, removeLeftovers } from "./layer-files.js";
import type { PresenceMap } from "./presence-map.js";
import { SpanState } from "./presence-map.js";
import { blockBytes, diskBytesIn, type LayerStock, namesIn, type StoredLayer } from "./stored-layer.js";

export interface SpanLayer extends StoredLayer {
  readonly kind: "spans";
  readonly names: LayerFileNames;
  /** As it was when the layer was listed; undefined where it is missing or damaged. */
  readonly map: PresenceMap | undefined;
  /** Of the whole layer. */
  readonly uncompressedBytes: number;
  readonly spanCount: number;
  readonly spansPresent: number;
  /** An eviction of spans has begun and is not finished. */
  readonly evicting: boolean;
}

export class SpanLayers implements LayerStock {
  readonly #layersDir: string;
  readonly #native: EvictionNative;

  constructor(cacheDir: string, native: EvictionNative) {
    this.#layersDir = path.join(cacheDir, "layers");
    this.#native = native;
  }

  async list(): Promise<SpanLayer[]> {
    const layers: SpanLayer[] = [];
    for (const { digest, directory } of await this.#directories()) {
      const files = await namesIn(directory);
      const layouts = new Set(
        files.flatMap((name) => /^(?:data|spans)-([0-9a-f]{16})$/.exec(name)?.[1] ?? []),
      );
      for (const layout of [...layouts].sort()) {
        const layer = await this.#look(digest, layerFileNames(directory, layout));
        if (layer) layers.push(layer);
      }
    }
    return layers;
  }

  async diskBytes(): Promise<number> {
    let bytes = 0;
    for (const { directory } of await this.#directories()) bytes += await diskBytesIn(directory);
    return bytes;
  }

  /** True where an eviction has begun and is not finished. */
  async isEvicting(): Promise<boolean> {
    for (const { directory } of await this.#directories())
      if ((await namesIn(directory)).some((name) => name.startsWith("retired-"))) return true;
    return false;
  }

  async removeLeftovers(nowMs: number): Promise<number> {
    let removed = 0;
    for (const { directory } of await this.#directories()) {
      removed += await removeLeftovers(directory, nowMs);
      if ((await namesIn(directory)).length > 0) continue;
      await removeEmptyDirectory(directory);
      removed++;
    }
    return removed;
  }

  async #directories(): Promise<{ digest: string; directory: string }[]> {
    const found: { digest: string; directory: string }[] = [];
    for (const algorithm of await namesIn(this.#layersDir)) {
      for (const hex of await namesIn(path.join(this.#layersDir, algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest)) found.push({ digest, directory: path.join(this.#layersDir, algorithm, hex) });
      }
    }
    return found;
  }

  async #look(digest: string, names: LayerFileNames): Promise<SpanLayer | undefined> {
    const [data, mapFile] = await Promise.all(
      [names.data, names.map].map((file) => stat(file).catch(() => undefined)),
    );
    if (!data && !mapFile) return undefined;
    const map = await readMapFile(names.map);
    const evicting = (await stat(names.retiredMap).catch(() => undefined)) !== undefined;
    return {
      kind: "spans",
      digest,
      names,
      map,
      diskBytes: ((data?.blocks ?? 0) + (mapFile?.blocks ?? 0)) * blockBytes,
      uncompressedBytes: map?.spanOffsets().at(-1) ?? data?.size ?? 0,
      spanCount: map?.spanCount ?? 0,
      spansPresent: map?.spansIn(SpanState.present).length ?? 0,
      lastUsedMs: map?.lastUsedMs || (mapFile ?? data)!.mtimeMs,
      inUse: await isLayerInUse(names, this.#native),
      evicting,
      remove: () => removeUnusedLayer(names, this.#native),
    };
  }
}
