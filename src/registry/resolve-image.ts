import { isSkimError, SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { parseImageConfig } from "../image/config.js";
import { type Digest, digestAlgorithm, digestOf } from "../image/digest.js";
import {
  choosePlatform,
  type Descriptor,
  type ImageIndex,
  type Manifest,
  parseManifestOrIndex,
} from "../image/manifest.js";
import { isImageIndexType, mediaTypes } from "../image/media-types.js";
import { hostPlatform, type Platform } from "../image/platform.js";
import { type Reference, referenceText } from "../image/reference.js";
import type { ResolvedImage } from "./image-source.js";

/**
 * From the manifest or image index that a reference names to one platform's manifest and config: the same for registries and
 * layout directories. Everything is checked against its digest, and against the size that its descriptor gives.
 */

/** Image indexes inside image indexes. One level is seen in the wild (a layout's index.json does not count). */
const indexDepthMax = 3;
/** Manifests fetched for one image: a hostile tree of indexes must not be walked to its end. */
const manifestsFetchedMax = 16;

export interface FetchedManifest {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  /** Content-Type of the answer, where there is one. */
  readonly mediaType: string | undefined;
}

export interface ManifestStore {
  readonly reference: Reference;
  /** The manifest or image index with this digest, checked. */
  manifest(digest: Digest): Promise<FetchedManifest>;
  /** All bytes of a small blob, not checked. */
  smallBlob(blob: Descriptor, what: string): Promise<Uint8Array>;
}

/** Throws as ImageSource.resolve does. `first` is what the reference names; `platform` the caller's wish, if there is one. */
export async function resolveImage(
  store: ManifestStore,
  first: FetchedManifest,
  platform: Platform | undefined,
): Promise<ResolvedImage> {
  const descent = new Descent(store, platform ?? hostPlatform());
  const { fetched, manifest, descriptor } = await descent.manifestIn(first, undefined, 0);
  const where = referenceText(store.reference);
  const configBytes = await readConfig(store, manifest.config, where);
  const found = parseImageConfig(configBytes, `${where}: config ${manifest.config.digest}`).platform;
  if (!descriptor && platform) {
    // A single manifest says what it is for in its config only.
    const only = { mediaType: manifest.mediaType, digest: fetched.digest, size: fetched.bytes.length };
    choosePlatform({ mediaType: "", manifests: [{ ...only, platform: found }] }, platform, where);
  }
  return {
    reference: store.reference,
    platform: found.architecture === "unknown" ? (descriptor?.platform ?? found) : found,
    manifestDigest: fetched.digest,
    manifestMediaType: manifest.mediaType,
    manifestBytes: fetched.bytes,
    config: manifest.config,
    configBytes,
    layers: manifest.layers,
  };
}

interface FoundManifest {
  readonly fetched: FetchedManifest;
  readonly manifest: Manifest;
  /** The entry of an image index that led to it. */
  readonly descriptor: Descriptor | undefined;
}

/** The way down through image indexes. */
class Descent {
  readonly #store: ManifestStore;
  readonly #platform: Platform;
  #fetches = 0;

  constructor(store: ManifestStore, platform: Platform) {
    this.#store = store;
    this.#platform = platform;
  }

  async manifestIn(
    fetched: FetchedManifest,
    descriptor: Descriptor | undefined,
    depth: number,
  ): Promise<FoundManifest> {
    const where = `${referenceText(this.#store.reference)}: ${fetched.digest}`;
    const declared = descriptor?.mediaType || fetched.mediaType;
    const parsed = parseManifestOrIndex(fetched.bytes, declared, where);
    if (parsed.kind === "manifest") return { fetched, manifest: parsed.manifest, descriptor };
    if (depth === indexDepthMax) {
      throw new SkimError(
        "IMAGE_INVALID",
        `${where}: image indexes are nested deeper than ${indexDepthMax} levels`,
      );
    }
    return await this.#choose(parsed.index, where, depth);
  }

  async #choose(index: ImageIndex, where: string, depth: number): Promise<FoundManifest> {
    let chosen: Descriptor;
    try {
      chosen = choosePlatform(index, this.#platform, where);
    } catch (notFound) {
      // Inner indexes need not say what platforms they hold: they are looked into one after the other.
      const inner = index.manifests.filter((entry) => isImageIndexType(entry.mediaType) && !entry.platform);
      for (const entry of inner) {
        try {
          return await this.#descend(entry, where, depth);
        } catch (error) {
          if (!isSkimError(error, "PLATFORM_NOT_FOUND")) throw error;
        }
      }
      throw notFound;
    }
    return await this.#descend(chosen, where, depth);
  }

  async #descend(entry: Descriptor, where: string, depth: number): Promise<FoundManifest> {
    if (++this.#fetches > manifestsFetchedMax) {
      throw new SkimError(
        "IMAGE_INVALID",
        `${where}: more than ${manifestsFetchedMax} image indexes to look into`,
      );
    }
    const fetched = await this.#store.manifest(entry.digest);
    checkSize(fetched.bytes, entry, where);
    return await this.manifestIn(fetched, entry, depth + 1);
  }
}

/** Types that a config of a container image has; old docker versions wrote the last two. */
const configTypes: readonly string[] = [
  mediaTypes.ociConfig,
  mediaTypes.dockerConfig,
  "application/octet-stream",
  "",
];

async function readConfig(store: ManifestStore, config: Descriptor, where: string): Promise<Uint8Array> {
  if (!configTypes.includes(config.mediaType)) {
    throw new SkimError(
      "IMAGE_INVALID",
      `${where}: not a container image but an artifact; its config is a ${JSON.stringify(config.mediaType)}`,
    );
  }
  const what = `config ${config.digest} of ${where}`;
  if (config.size > limits.configBytesMax) {
    throw new SkimError(
      "LIMIT_EXCEEDED",
      `${what}: ${config.size} bytes, more than ${limits.configBytesMax}`,
    );
  }
  const bytes = await store.smallBlob(config, what);
  checkDigest(bytes, config.digest, what);
  checkSize(bytes, config, where);
  return bytes;
}

/** Throws IMAGE_INVALID where the bytes of a digest are not as many as the descriptor that names it says. */
export function checkSize(bytes: Uint8Array, descriptor: Descriptor, where: string): void {
  if (bytes.length === descriptor.size) return;
  throw new SkimError(
    "IMAGE_INVALID",
    `${where}: ${descriptor.digest} has ${bytes.length} bytes, its descriptor says ${descriptor.size}`,
  );
}

/** Throws DIGEST_MISMATCH unless `bytes` have `digest`. `what` names them. */
export function checkDigest(bytes: Uint8Array, digest: Digest, what: string): void {
  const found = digestOf(bytes, digestAlgorithm(digest));
  if (found === digest) return;
  throw new SkimError(
    "DIGEST_MISMATCH",
    `${what}: its ${bytes.length} bytes have the digest ${found}; what was sent is not what was asked for`,
  );
}
