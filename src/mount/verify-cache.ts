/** What `skim cache verify` does: every byte in the cache that can be checked, is. */
import { SkimError } from "../base/errors.js";
import { SpanLayers } from "../cache/span-layers.js";
import { type VerifiedLayer, type VerifyOptions, verifySpanLayer } from "../cache/verify-layers.js";
import { loadNative } from "../native/load.js";
import { checkExtractedLayer } from "../unpack/extracted-layers.js";
import { ExtractedStock, type StoredExtractedLayer } from "../unpack/extracted-stock.js";

/** All layers, or those with these digests or diffIds. Damaged spans and layers are dropped. Throws NOT_FOUND for a digest that is not there. */
export async function verifyCache(
  digests: readonly string[],
  options: VerifyOptions,
): Promise<VerifiedLayer[]> {
  const native = loadNative();
  const wanted = <T extends { digest: string }>(layers: T[]) =>
    layers.filter(({ digest }) => digests.length === 0 || digests.includes(digest));
  const spanLayers = wanted(await new SpanLayers(options.cacheDir, native).list());
  const extracted = wanted(await new ExtractedStock(options.cacheDir, native).list());
  const found = new Set([...spanLayers, ...extracted].map(({ digest }) => digest));
  const missing = digests.find((digest) => !found.has(digest));
  if (missing !== undefined)
    throw new SkimError("NOT_FOUND", `${missing} is not in ${options.cacheDir}; see skim cache ls`);
  const verified: VerifiedLayer[] = [];
  for (const layer of spanLayers) verified.push(await verifySpanLayer(layer, options));
  for (const layer of extracted) {
    options.signal?.throwIfAborted();
    verified.push(await verifyExtracted(layer));
  }
  return verified;
}

async function verifyExtracted(layer: StoredExtractedLayer): Promise<VerifiedLayer> {
  const intact = await checkExtractedLayer(layer.directory, layer.digest);
  if (!intact) await layer.remove();
  return {
    kind: layer.kind,
    digest: layer.digest,
    intact: intact ? 1 : 0,
    damaged: intact ? 0 : 1,
    bytes: layer.diskBytes,
  };
}
