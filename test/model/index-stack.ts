/** The product's way from layers to an archive, piece by piece in memory but for the archive, and what can be seen in that. */
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";
import type { Archive } from "../../src/archive/archive.js";
import { openArchive } from "../../src/archive/archive-reader.js";
import { encodeArchive, writeArchive } from "../../src/archive/archive-writer.js";
import type { ByteString } from "../../src/base/byte-string.js";
import { isSkimError, type SkimError } from "../../src/base/errors.js";
import { resolveSettings } from "../../src/base/settings.js";
import { digestOf } from "../../src/image/digest.js";
import { indexLayer } from "../../src/layer/index-layer.js";
import type { LayerIndex } from "../../src/layer/layer-index.js";
import { loadNative } from "../../src/native/load.js";
import { mergeLayers } from "../../src/tree/merge-layers.js";
import { contentsOf } from "../archive/sample-archive.js";
import { walkArchive } from "../archive/walk-archive.js";
import type { DumpLine } from "../support/tree-dump.js";
import { type BuiltLayer, builtLayer } from "./layer-tars.js";
import type { RandomStack } from "./random-layers.js";

const native = loadNative();
const settings = resolveSettings({}, {});
const spanBytes = 1024 * 1024;

/** The error where the layers are refused: for what is in them, not for any other reason. */
async function writeStackArchive(
  file: string,
  layers: readonly BuiltLayer[],
): Promise<SkimError | undefined> {
  try {
    const indexes: LayerIndex[] = [];
    for (const [position, layer] of layers.entries()) {
      const where = `layer ${position + 1} of ${layers.length}`;
      indexes.push(await indexBlob(layer, where));
    }
    const tree = mergeLayers(indexes);
    await writeArchive(file, encodeArchive(contentsOf(tree.root, indexes, { tree })));
    return undefined;
  } catch (error) {
    if (isSkimError(error, "LAYER_CORRUPT") || isSkimError(error, "LIMIT_EXCEEDED")) return error;
    throw error;
  }
}

async function indexBlob({ tar, blob }: BuiltLayer, where: string): Promise<LayerIndex> {
  const pieces = async function* () {
    // In two: what is cut at any place must not matter.
    yield blob.subarray(0, blob.length >> 1);
    yield blob.subarray(blob.length >> 1);
  };
  return await indexLayer(pieces(), {
    digest: digestOf(blob),
    size: blob.length,
    diffId: digestOf(tar),
    spanBytes,
    settings,
    native,
    where,
  });
}

/** What the product says of `stack`: the lines of the archive, read back from its file, or why it refuses the layers. */
export async function indexedStack(stack: RandomStack, dir: string): Promise<DumpLine[] | SkimError> {
  const layers = stack.layers.map(builtLayer);
  const file = path.join(dir, "stack.skim");
  const refusal = await writeStackArchive(file, layers);
  if (refusal) return refusal;
  const archive = await openArchive(file);
  try {
    return archiveLines(archive, layers);
  } finally {
    await archive.close();
    await rm(file);
  }
}

function archiveLines(archive: Archive, layers: readonly BuiltLayer[]): DumpLine[] {
  const entries = walkArchive(archive).sort((a, b) => (a.path < b.path ? -1 : 1));
  const firstNames = new Map<number, ByteString>();
  return entries.map(({ path: absolute, ino, attributes, target, extents, xattrs }) => {
    const { type, mode, uid, gid, nlink, mtimeSec, mtimeNsec, deviceMajor, deviceMinor } = attributes;
    const name = absolute.slice(1) as ByteString;
    if (!firstNames.has(ino)) firstNames.set(ino, name);
    const isDevice = type === "character" || type === "block";
    const content = Buffer.alloc(type === "file" ? attributes.size : 0);
    for (const { layer, layerOffset, fileOffset, length } of extents)
      layers[layer]!.tar.copy(content, fileOffset, layerOffset, layerOffset + length);
    return {
      path: name,
      type,
      mode: mode & 0o7777,
      uid,
      gid,
      size: type === "file" || type === "symlink" ? attributes.size : 0,
      mtimeSec,
      mtimeNsec,
      nlink,
      firstName: firstNames.get(ino)!,
      linkTarget: target ?? ("" as ByteString),
      device: isDevice ? `${deviceMajor}:${deviceMinor}` : "",
      xattrs: xattrs.map(({ name, value }) => [name, value] as const),
      sha256: type === "file" ? createHash("sha256").update(content).digest("hex") : "",
    };
  });
}
