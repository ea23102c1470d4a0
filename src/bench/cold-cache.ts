/** Cache directories as they are before a first start: what skim knows of an image is there, and none of its bytes. */
import { cp, mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { openImageOrArchive } from "../mount/image-or-archive.js";

/** Spans, and layers that were unpacked. Everything else in a cache directory is known before a start. */
const contentDirectory = "layers";

/** Copies `from`, in which the image is indexed, to the directory `to`, new or empty, without content. */
export async function copyColdCache(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from))
    if (name !== contentDirectory) await cp(path.join(from, name), path.join(to, name), { recursive: true });
}

/**
 * The same for a host that has recorded or been given a profile of `image`: it has opened the archive before, and need not check its tree again. A copy is another file,
 * which nobody has checked yet.
 */
export async function copyProfiledCache(from: string, to: string, image: string): Promise<void> {
  await copyColdCache(from, to);
  const { archive } = await openImageOrArchive(image, { settings: { cacheDir: to } });
  await archive.close();
}
