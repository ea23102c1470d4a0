/**
 * Where profiles are kept: `<cacheDir>/profiles/<algorithm>/<manifest digest>.json`, one file an image. Command lines may hold what is nobody
 * else's business, so the files are the owner's alone.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { type Digest, digestAlgorithm, digestHex } from "../image/digest.js";
import {
  addProfiles,
  type ImageProfiles,
  parseProfiles,
  profileVersion,
  type StartProfile,
} from "./start-profile.js";

export function profileFile(cacheDir: string, manifestDigest: Digest): string {
  return path.join(
    cacheDir,
    "profiles",
    digestAlgorithm(manifestDigest),
    `${digestHex(manifestDigest)}.json`,
  );
}

/** The profiles of an image; none where there is no file, or one that is not readable as such: a profile is a hint, and can be recorded anew. */
export function readProfiles(cacheDir: string, manifestDigest: Digest): ImageProfiles {
  const file = profileFile(cacheDir, manifestDigest);
  try {
    const profiles = parseProfiles(readFileSync(file, "utf8"), file);
    if (profiles.manifestDigest === manifestDigest) return profiles;
  } catch {}
  return { profileVersion, manifestDigest, profiles: [] };
}

/**
 * Merges `added` into the profiles of an image. Of two processes that do so at the very same moment one may be lost, never half of one. Synchronous: a
 * mount server does it when its mount has ended, and then ends itself. Throws LOCAL_IO.
 */
export function addToProfiles(
  cacheDir: string,
  manifestDigest: Digest,
  added: readonly StartProfile[],
): ImageProfiles {
  const file = profileFile(cacheDir, manifestDigest);
  const profiles = addProfiles(readProfiles(cacheDir, manifestDigest), added);
  const beside = `${file}.tmp-${randomBytes(6).toString("hex")}`;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(beside, `${JSON.stringify(profiles)}\n`, { mode: 0o600 });
    renameSync(beside, file);
  } catch (cause) {
    rmSync(beside, { force: true });
    throw new SkimError("LOCAL_IO", `start profile ${file} cannot be written`, { cause });
  }
  return profiles;
}

/** Removes the profiles of an image. False where there were none. Throws LOCAL_IO. */
export function removeProfiles(cacheDir: string, manifestDigest: Digest): boolean {
  const file = profileFile(cacheDir, manifestDigest);
  try {
    rmSync(file);
    return true;
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return false;
    throw new SkimError("LOCAL_IO", `start profile ${file} cannot be removed`, { cause });
  }
}
