/** An image, or what a digest names in the cache, to the layers that a pin keeps. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import type { Archive } from "../archive/archive.js";
import { openArchive } from "../archive/archive-reader.js";
import { SkimError } from "../base/errors.js";
import { type Pin, writePin } from "../cache/pins.js";
import { SpanLayers } from "../cache/span-layers.js";
import { type Digest, digestAlgorithm, digestHex, isDigest } from "../image/digest.js";
import { loadNative } from "../native/load.js";
import { ExtractedStock } from "../unpack/extracted-stock.js";
import { type OpenImageOptions, openImageOrArchive } from "./image-or-archive.js";

/**
 * Pins the layers of an image (an archive, a reference, or the digest of a manifest that is indexed here), or one layer by its digest or
 * diffId. An image that is not indexed yet is. Throws NOT_FOUND for a digest that nothing in the cache has, and as openImageOrArchive does.
 */
export async function pinImage(name: string, cacheDir: string, options: OpenImageOptions): Promise<Pin> {
  const layers = isDigest(name)
    ? await layersOfDigest(name, cacheDir)
    : await layersOfImage(await openImageOrArchive(name, options));
  const pin = { name, layers };
  await writePin(cacheDir, pin);
  return pin;
}

async function layersOfImage({ archive }: { archive: Archive }): Promise<string[]> {
  try {
    return [...new Set(archive.layers.flatMap(({ digest, diffId }) => [digest, diffId]))];
  } finally {
    await archive.close();
  }
}

async function layersOfDigest(digest: Digest, cacheDir: string): Promise<string[]> {
  const directory = path.join(cacheDir, "archives", digestAlgorithm(digest));
  const names = await readdir(directory).catch(() => []);
  const file = names.find((one) => one.startsWith(`${digestHex(digest)}-`) && one.endsWith(".skim"));
  if (file) return await layersOfImage({ archive: await openArchive(path.join(directory, file)) });
  const native = loadNative();
  const stored = [
    ...(await new SpanLayers(cacheDir, native).list()),
    ...(await new ExtractedStock(cacheDir, native).list()),
  ];
  if (stored.some((layer) => layer.digest === digest)) return [digest];
  throw new SkimError(
    "NOT_FOUND",
    `${digest}: neither an image that is indexed nor a layer in ${cacheDir}; pin an image by its name, or see skim cache ls`,
  );
}
