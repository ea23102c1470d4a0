import { SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { type Digest, parseDigest } from "./digest.js";
import { isImageIndexType, isManifestType, mediaTypes } from "./media-types.js";
import { normalizePlatform, type Platform, platformEquals, platformText } from "./platform.js";

/** OCI content descriptor: what some stored bytes are, how many, and their digest. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes of the stored blob. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** One platform's list of config and layers, base layer first. */
export interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
}

/** The multi-platform list: manifests (or further image indexes) with the platform each is for. */
export interface ImageIndex {
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
}

type JsonObject = Record<string, unknown>;

/** Parses a manifest or image index. `where` names it in errors. Throws IMAGE_INVALID or LAYER_UNSUPPORTED. */
export function parseManifestOrIndex(
  bytes: Uint8Array,
  declaredType: string | undefined,
  where: string,
): { kind: "manifest"; manifest: Manifest } | { kind: "index"; index: ImageIndex } {
  const json = parseJsonObject(bytes, where);
  // The body's own mediaType is hashed, a Content-Type header is not; where neither helps, the fields decide.
  const own = typeof json.mediaType === "string" ? json.mediaType : undefined;
  const mediaType = own ?? declaredType?.split(";")[0]?.trim() ?? "";
  if (
    json.schemaVersion === 1 ||
    mediaType === mediaTypes.dockerManifestV1 ||
    mediaType === mediaTypes.dockerManifestV1Signed
  ) {
    throw new SkimError(
      "IMAGE_INVALID",
      `${where}: a docker schema 1 manifest, which has no layer digests to rely on; push the image again with any current tool`,
    );
  }
  const looksLikeIndex = Array.isArray(json.manifests) && json.layers === undefined;
  if (isImageIndexType(mediaType) || (!isManifestType(mediaType) && looksLikeIndex)) {
    const manifests = arrayOf(json.manifests, `${where}: manifests`).map((entry, i) =>
      parseDescriptor(entry, `${where}: manifests[${i}]`),
    );
    return {
      kind: "index",
      index: { mediaType: isImageIndexType(mediaType) ? mediaType : mediaTypes.ociImageIndex, manifests },
    };
  }
  if (json.config === undefined || json.layers === undefined) {
    throw new SkimError(
      "IMAGE_INVALID",
      `${where}: neither a manifest (config, layers) nor an image index (manifests); its media type is ${JSON.stringify(mediaType)}`,
    );
  }
  const layers = arrayOf(json.layers, `${where}: layers`).map((entry, i) =>
    parseDescriptor(entry, `${where}: layers[${i}]`),
  );
  if (layers.length > limits.layersMax) {
    throw new SkimError("LIMIT_EXCEEDED", `${where}: ${layers.length} layers, more than ${limits.layersMax}`);
  }
  const annotations = stringMap(json.annotations);
  return {
    kind: "manifest",
    manifest: {
      mediaType: isManifestType(mediaType) ? mediaType : mediaTypes.ociManifest,
      config: parseDescriptor(json.config, `${where}: config`),
      layers,
      annotations,
    },
  };
}

/**
 * The manifest of `index` for `platform`: an exact match first, then one without a variant, then for arm the next lower variant, as
 * containerd does. Attestations (platform unknown/unknown) never match. Throws PLATFORM_NOT_FOUND with the list of what there is.
 */
export function choosePlatform(index: ImageIndex, platform: Platform, where: string): Descriptor {
  const wanted = normalizePlatform(platform);
  const offered = index.manifests.filter((entry) => entry.platform && entry.platform.os !== "unknown");
  const exact = offered.find((entry) => platformEquals(wanted, entry.platform!));
  if (exact) return exact;
  const sameCpu = offered.filter((entry) => {
    const other = normalizePlatform(entry.platform!);
    return other.os === wanted.os && other.architecture === wanted.architecture;
  });
  if (wanted.variant === undefined && sameCpu[0] && sameCpu.length === 1) return sameCpu[0];
  const compatible = sameCpu
    .filter((entry) => variantNumber(normalizePlatform(entry.platform!)) <= variantNumber(wanted))
    .sort(
      (a, b) => variantNumber(normalizePlatform(b.platform!)) - variantNumber(normalizePlatform(a.platform!)),
    );
  if (compatible[0]) return compatible[0];
  const only = index.manifests[0];
  if (index.manifests.length === 1 && only && !only.platform) return only;
  const list =
    [...new Set(offered.map((entry) => platformText(entry.platform!)))].join(", ") ||
    "none that name a platform";
  throw new SkimError(
    "PLATFORM_NOT_FOUND",
    `${where}: no manifest for ${platformText(wanted)}; it has ${list} (choose with --platform)`,
  );
}

function variantNumber(platform: Platform): number {
  return Number(/^v(\d+)/.exec(platform.variant ?? "v0")?.[1] ?? 0);
}

export function parseDescriptor(value: unknown, where: string): Descriptor {
  const json = asObject(value, where);
  const size = json.size;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
    throw new SkimError("IMAGE_INVALID", `${where}: size ${JSON.stringify(size)} is not a number of bytes`);
  }
  const platform = json.platform === undefined ? undefined : parsePlatformObject(json.platform);
  const urls = Array.isArray(json.urls)
    ? json.urls.filter((url): url is string => typeof url === "string")
    : undefined;
  return {
    mediaType: typeof json.mediaType === "string" ? json.mediaType : "",
    digest: parseDigest(json.digest, `${where}: digest`),
    size,
    ...(urls?.length ? { urls } : {}),
    ...(platform ? { platform } : {}),
    ...(json.annotations ? { annotations: stringMap(json.annotations) } : {}),
  };
}

function parsePlatformObject(value: unknown): Platform | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { os, architecture, variant } = value as JsonObject;
  if (typeof os !== "string" || typeof architecture !== "string") return undefined;
  return { os, architecture, ...(typeof variant === "string" && variant ? { variant } : {}) };
}

export function parseJsonObject(bytes: Uint8Array, where: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (cause) {
    throw new SkimError("IMAGE_INVALID", `${where}: not JSON`, { cause });
  }
  return asObject(value, where);
}

function asObject(value: unknown, where: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new SkimError("IMAGE_INVALID", `${where}: not a JSON object`);
}

function arrayOf(value: unknown, where: string): unknown[] {
  if (Array.isArray(value)) return value;
  // Go writes an empty list as null.
  if (value === null) return [];
  throw new SkimError("IMAGE_INVALID", `${where}: not a list`);
}

function stringMap(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}
