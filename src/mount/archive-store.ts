/**
 * Where archives of indexed images are kept: `<cacheDir>/archives/<algorithm>/<manifest digest>-<span bytes>.skim`.
 *
 * A manifest digest names one image for one platform for ever, so an archive found here never needs the registry to be trusted: its
 * reader checks that it describes exactly that manifest. That its tree was checked is kept too (tree-proof.ts).
 */
import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Archive, TreeProof } from "../archive/archive.js";
import { openArchive } from "../archive/archive-reader.js";
import { fileIdentityOf } from "../archive/tree-proof.js";
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
    const archive = await openChecked(file, cacheDir);
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

/**
 * Opens an archive, wherever it lies, and keeps `<cacheDir>/checked-archives/<device>-<inode>`: that its tree was checked, so that the next start need not.
 * Throws as openArchive does.
 */
export async function openChecked(file: string, cacheDir: string): Promise<Archive> {
  const found = await stat(file, { bigint: true }).catch(() => undefined);
  const known = found && (await readProof(noteFileOf(fileIdentityOf(found), cacheDir)));
  const archive = await openArchive(file, known ? { proof: known } : {});
  if (archive.treeProof && archive.treeProof.file !== known?.file)
    await noteChecked(archive.treeProof, cacheDir);
  return archive;
}

/** The word of somebody who has checked the archive `file` as it is now; undefined where nobody is known to have. */
export async function knownProof(file: string, cacheDir: string): Promise<TreeProof | undefined> {
  const identity = fileIdentityOf(await stat(file, { bigint: true }));
  const proof = await readProof(noteFileOf(identity, cacheDir));
  return proof?.file === identity ? proof : undefined;
}

/** Keeps the word of somebody who has checked the tree of an archive. Never rejects. */
export async function noteChecked(proof: TreeProof, cacheDir: string): Promise<void> {
  const noteFile = noteFileOf(proof.file, cacheDir);
  // A note is worth nothing but time: a torn one is not read, one that cannot be written is done without.
  await mkdir(path.dirname(noteFile), { recursive: true, mode: 0o700 })
    .then(() => writeFile(noteFile, JSON.stringify(proof), { mode: 0o600 }))
    .catch(() => {});
}

function noteFileOf(fileIdentity: string, cacheDir: string): string {
  const [device, inode] = fileIdentity.split(":");
  return path.join(cacheDir, "checked-archives", `${device}-${inode}`);
}

async function readProof(noteFile: string): Promise<TreeProof | undefined> {
  try {
    const proof = JSON.parse(await readFile(noteFile, "utf8")) as TreeProof;
    return typeof proof.file === "string" && proof.totals ? proof : undefined;
  } catch {
    return undefined;
  }
}
