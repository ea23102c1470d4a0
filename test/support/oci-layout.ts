import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { type Digest, digestHex } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";

/** One layer of a test image: its tar, and how it is stored. */
export interface TestLayer {
  /** The uncompressed tar stream; its sha256 is the diffId. */
  readonly tar: Uint8Array;
  /** Stored bytes; default: `tar` gzipped. */
  readonly blob?: Uint8Array;
  readonly mediaType?: string;
  /** Put into the config instead of the true one. */
  readonly diffId?: string;
  /** Further fields of the descriptor. */
  readonly descriptor?: Record<string, unknown>;
}

export interface TestImage {
  readonly manifestDigest: Digest;
  readonly configDigest: Digest;
  readonly layerDigests: readonly Digest[];
}

export interface TestImageOptions {
  readonly tag?: string;
  /** `config.config` of the image config: Env, Cmd, User, ... */
  readonly config?: Record<string, unknown>;
  readonly architecture?: string;
  readonly variant?: string;
}

const sha256 = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;

/** Adds an image to the OCI layout at `dir` (made if it is not there) and tags it (default `latest`). */
export async function writeTestImage(
  dir: string,
  layers: readonly TestLayer[],
  options: TestImageOptions = {},
): Promise<TestImage> {
  const put = (bytes: Uint8Array) => putBlob(dir, bytes);
  const descriptors = [];
  for (const layer of layers) {
    const blob = layer.blob ?? gzipSync(layer.tar);
    const digest = await put(blob);
    descriptors.push({
      mediaType: layer.mediaType ?? mediaTypes.ociLayerGzip,
      digest,
      size: blob.length,
      ...layer.descriptor,
    });
  }
  const config = Buffer.from(
    JSON.stringify({
      architecture: options.architecture ?? "amd64",
      ...(options.variant ? { variant: options.variant } : {}),
      os: "linux",
      config: options.config ?? {},
      rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId ?? sha256(layer.tar)) },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: await put(config), size: config.length },
      layers: descriptors,
    }),
  );
  const manifestDigest = await put(manifest);
  await tagManifest(dir, options.tag ?? "latest", mediaTypes.ociManifest, manifestDigest, manifest.length);
  return { manifestDigest, configDigest: sha256(config), layerDigests: descriptors.map((d) => d.digest) };
}

/** Stores bytes under their sha256. */
export async function putBlob(dir: string, bytes: Uint8Array): Promise<Digest> {
  const digest = sha256(bytes);
  await mkdir(path.join(dir, "blobs/sha256"), { recursive: true });
  await writeFile(path.join(dir, "blobs/sha256", digestHex(digest)), bytes);
  return digest;
}

/** Adds an entry with a tag to index.json, in place of one with the same tag. */
export async function tagManifest(
  dir: string,
  tag: string,
  mediaType: string,
  digest: Digest,
  size: number,
): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeFile(path.join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const file = path.join(dir, "index.json");
  const index = await readFile(file, "utf8").then(JSON.parse, () => ({ schemaVersion: 2, manifests: [] }));
  const ref = "org.opencontainers.image.ref.name";
  index.manifests = index.manifests.filter(
    (entry: { annotations?: Record<string, string> }) => entry.annotations?.[ref] !== tag,
  );
  index.manifests.push({ mediaType, digest, size, annotations: { [ref]: tag } });
  await writeFile(file, JSON.stringify(index));
}
