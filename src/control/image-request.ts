/**
 * Which image a caller means, as far as it can be said without opening it: the file of its archive, and whatever else makes two callers want the same
 * mount or two different ones.
 */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import path from "node:path";
import { fileIdentityOf } from "../archive/tree-proof.js";
import type { Settings } from "../base/settings.js";
import { credentialFiles } from "../registry/docker-credentials.js";

/** What layers are fetched with where that is not what the daemon has: of the caller's command line and environment. */
export interface RegistryAccess {
  readonly insecureRegistries?: Settings["insecureRegistries"];
  readonly mirrors?: Settings["mirrors"];
  /** Where credentials are looked for: HOME, DOCKER_CONFIG, REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface NamedImage {
  readonly archiveFile: string;
  /** Image whose registry serves the layers; undefined: the one the archive was made from. */
  readonly source?: string;
  readonly access: RegistryAccess;
  /** Of somebody who wants a mount for himself. */
  readonly apart?: string;
}

/**
 * The id of the mount that everybody shares who wants the same: the same archive, not another file that has come to its place, from the same source by
 * the same ways. The same one after the daemon has started again.
 */
export async function sharedImageId(image: NamedImage, cacheDir: string): Promise<string> {
  const { archiveFile, source = "", access, apart = "" } = image;
  // What the store has is named by what is in it.
  const isStored = archiveFile.startsWith(path.join(cacheDir, "archives") + path.sep);
  const identity = isStored ? "" : fileIdentityOf(await stat(archiveFile, { bigint: true }));
  const parts = [archiveFile, identity, source, sorted(access), apart];
  return `image-${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16)}`;
}

/**
 * The id of the `attempt`th mount, from 1, for those who share `id`: where a dead one cannot be taken away, because a container still stands on it, the next one has
 * another name.
 */
export function mountIdOf(id: string, attempt: number): string {
  return attempt === 1 ? id : `${id}-${attempt}`;
}

/** What mountIdOf was given. */
export function sharedIdOf(mountId: string): string {
  return mountId.split("-").slice(0, 2).join("-");
}

/** What of `access` is other than what this process does anyway: who says the same by other words shares a mount with who says nothing. */
export function ownAccess(access: RegistryAccess, settings: Settings): RegistryAccess {
  const { insecureRegistries, mirrors, environment } = access;
  const isSame = (one: unknown, other: unknown) =>
    JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
  const files = environment && credentialFiles({ ...process.env, ...environment });
  return {
    ...(insecureRegistries && !isSame(insecureRegistries, settings.insecureRegistries)
      ? { insecureRegistries }
      : {}),
    ...(mirrors && !isSame(mirrors, settings.mirrors) ? { mirrors } : {}),
    ...(files && !isSame(files, credentialFiles(process.env)) ? { environment } : {}),
  };
}

/** An object by its keys in order, all the way down, so that equal ones are written alike. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value ?? null;
  return Object.entries(value)
    .filter(([, each]) => each !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, each]) => [key, sorted(each)]);
}
