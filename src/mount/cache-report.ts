/** What is in the cache directory, for people and their scripts: layers with who pins and who uses them, and what the small files beside them take. */
import { lstat } from "node:fs/promises";
import path from "node:path";
import { openArchive } from "../archive/archive-reader.js";
import { isRunning } from "../base/process-identity.js";
import { filesystemSpace } from "../cache/evictor.js";
import { readPins } from "../cache/pins.js";
import { type SpanLayer, SpanLayers } from "../cache/span-layers.js";
import { blockBytes, namesIn, type StoredLayer } from "../cache/stored-layer.js";
import { loadNative } from "../native/load.js";
import { ExtractedStock } from "../unpack/extracted-stock.js";
import { type CacheSettings, spaceLimits } from "./disk-cache.js";
import { MountRecords } from "./mount-record.js";

export interface ListedLayer {
  readonly kind: StoredLayer["kind"];
  /** Of the blob; for an extracted layer the diffId. */
  readonly digest: string;
  readonly diskBytes: number;
  /** Of the whole uncompressed layer; null where that is not known. */
  readonly layerBytes: number | null;
  /** Null for an extracted layer, which is whole. */
  readonly spansPresent: number | null;
  readonly spanCount: number | null;
  readonly lastUsedAt: string;
  /** Names of pins. */
  readonly pinnedBy: readonly string[];
  /** A process has it open. */
  readonly inUse: boolean;
  /** Ids of mounts whose image has it. */
  readonly mounts: readonly string[];
}

export interface ListedFiles {
  readonly files: number;
  readonly diskBytes: number;
}

export interface CacheReport {
  readonly cacheDir: string;
  readonly usedBytes: number;
  readonly bytesMax: number;
  readonly freeBytes: number;
  readonly freeBytesMin: number;
  readonly layers: readonly ListedLayer[];
  /** Not counted in `usedBytes`, and never evicted. */
  readonly archives: ListedFiles;
  readonly layerIndexes: ListedFiles;
}

/** A cache that is not there yet is an empty one. Throws what node:fs says, and LOCAL_IO for a damaged pin. */
export async function describeCache(
  settings: CacheSettings & { readonly runDir: string },
): Promise<CacheReport> {
  const { cacheDir } = settings;
  const native = loadNative();
  const stored = [
    ...(await new SpanLayers(cacheDir, native).list()),
    ...(await new ExtractedStock(cacheDir, native).list()),
  ];
  const { layers: pinned } = await readPins(cacheDir);
  const mounts = await mountsByLayer(settings.runDir);
  const space = await filesystemSpace(cacheDir);
  const limits = spaceLimits(settings, space);
  return {
    cacheDir,
    usedBytes: stored.reduce((sum, layer) => sum + layer.diskBytes, 0),
    bytesMax: limits.bytesMax,
    freeBytes: space.freeBytes,
    freeBytesMin: limits.freeBytesMin,
    layers: stored
      .sort((a, b) => b.lastUsedMs - a.lastUsedMs)
      .map((layer) => ({
        kind: layer.kind,
        digest: layer.digest,
        diskBytes: layer.diskBytes,
        ...spanCounts(layer),
        lastUsedAt: new Date(layer.lastUsedMs).toISOString(),
        pinnedBy: pinned.get(layer.digest) ?? [],
        inUse: layer.inUse,
        mounts: mounts.get(layer.digest) ?? [],
      })),
    archives: await filesBelow(path.join(cacheDir, "archives")),
    layerIndexes: await filesBelow(path.join(cacheDir, "layer-indexes")),
  };
}

function spanCounts(layer: StoredLayer): Pick<ListedLayer, "layerBytes" | "spansPresent" | "spanCount"> {
  if (layer.kind === "extracted") return { layerBytes: null, spansPresent: null, spanCount: null };
  const { uncompressedBytes, spansPresent, spanCount } = layer as SpanLayer;
  return { layerBytes: uncompressedBytes, spansPresent, spanCount };
}

async function mountsByLayer(runDir: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const { id, archive: file, server } of await new MountRecords(runDir).list()) {
    if (!server || !isRunning(server)) continue;
    const archive = await openArchive(file).catch(() => undefined);
    if (!archive) continue;
    for (const digest of new Set(archive.layers.map((layer) => layer.digest)))
      found.set(digest, [...(found.get(digest) ?? []), id]);
    await archive.close();
  }
  return found;
}

async function filesBelow(directory: string): Promise<ListedFiles> {
  let files = 0;
  let diskBytes = 0;
  for (const name of await namesIn(directory)) {
    const found = await lstat(path.join(directory, name)).catch(() => undefined);
    if (found?.isDirectory()) {
      const below = await filesBelow(path.join(directory, name));
      files += below.files;
      diskBytes += below.diskBytes;
    } else if (found) {
      files++;
      diskBytes += found.blocks * blockBytes;
    }
  }
  return { files, diskBytes };
}
