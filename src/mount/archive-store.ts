/**
 * Where archives of indexed images are kept: `<cacheDir>/archives/<algorithm>/<manifest digest>-<span bytes>.skim`.
 *
 * A manifest digest names one image for one platform for ever, so an archive found here never needs the registry to be trusted: its
 * reader checks that it describes exactly that manifest.
 */
import { rm } from "node:fs/promises";
import path from "node:path";
import type { Archive } from "../archive/archive.js";
import { openArchive } from "../archive/archive-reader.js";
import { isSkimError, SkimError } from "../base/errors.js";
import { type Digest, digestAlgorithm, digestHex } from "../image/digest.js";

export function storedArchiveFile(cacheDir: string, manifestDigest: Digest, spanBytes: number): string {
  const name = `${digestHex(manifestDigest)}-${spanBytes}.skim`;
  return path.join(cacheDir, "archives", digestAlgorithm(manifestDigest), name);
}

/**
 * Opens the stored archive of a manifest, or gives undefined where there is none. A damaged one is removed: it is a cache, and
 * indexing makes it again.
 */
export async function openStoredArchive(
  cacheDir: string,
  manifestDigest: Digest,
  spanBytes: number,
): Promise<{ file: string; archive: Archive } | undefined> {
  const file = storedArchiveFile(cacheDir, manifestDigest, spanBytes);
  try {
    const archive = await openArchive(file);
    if (archive.identity.manifestDigest !== manifestDigest) {
      await archive.close();
      throw new SkimError("ARCHIVE_DAMAGED", `archive ${file} describes ${archive.identity.manifestDigest}`);
    }
    return { file, archive };
  } catch (error) {
    if (isSkimError(error, "NOT_FOUND")) return undefined;
    if (isSkimError(error, "ARCHIVE_DAMAGED") || isSkimError(error, "ARCHIVE_VERSION")) {
      await rm(file, { force: true });
      return undefined;
    }
    throw error;
  }
}
