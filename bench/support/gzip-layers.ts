/** Tars as the gzip layers of an image in an OCI layout, compressed as docker does it: one stream of zlib's, level 6. */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { ByteRange } from "../../src/base/byte-range.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { hostPlatform } from "../../src/image/platform.js";
import { putBlob, tagManifest } from "../../test/support/oci-layout.js";
import { tarEnd } from "../../test/support/tar-builder.js";

/** What becomes one layer: members of a tar, without the end that the layer gets. */
export interface TarPart {
  readonly file: string;
  readonly range: ByteRange;
}

interface GzipLayer {
  readonly digest: string;
  readonly diffId: string;
  readonly bytes: number;
}

/** zlib has a thread for each stream; more streams than cores only take memory. */
const streamsAtOnce = 2;

/** Adds an image of these layers, the lowest first, to the layout at `directory`; `command` is its Cmd. */
export async function addGzipImage(
  directory: string,
  tag: string,
  parts: readonly TarPart[],
  command: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await mkdir(path.join(directory, "blobs/sha256"), { recursive: true });
  const layers: GzipLayer[] = [];
  for (let at = 0; at < parts.length; at += streamsAtOnce) {
    const batch = parts.slice(at, at + streamsAtOnce);
    layers.push(...(await Promise.all(batch.map((part) => addLayer(directory, part, signal)))));
  }
  const { os, architecture } = hostPlatform();
  const config = Buffer.from(
    JSON.stringify({
      architecture,
      os,
      config: { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Cmd: command },
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const configDigest = await putBlob(directory, config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: configDigest, size: config.length },
      layers: layers.map(({ digest, bytes }) => ({
        mediaType: mediaTypes.ociLayerGzip,
        digest,
        size: bytes,
      })),
    }),
  );
  const digest = await putBlob(directory, manifest);
  await tagManifest(directory, tag, mediaTypes.ociManifest, digest, manifest.length);
}

async function addLayer(
  directory: string,
  { file, range }: TarPart,
  signal: AbortSignal,
): Promise<GzipLayer> {
  const diffId = createHash("sha256");
  const digest = createHash("sha256");
  let bytes = 0;
  const unnamed = path.join(directory, "blobs", `${randomUUID()}.new`);
  const { start, end } = range;
  await pipeline(
    async function* () {
      yield* createReadStream(file, { start, end: end - 1, highWaterMark: 2 ** 20 });
      yield tarEnd;
    },
    passing((piece) => diffId.update(piece)),
    createGzip({ level: 6, chunkSize: 2 ** 18 }),
    passing((piece) => {
      digest.update(piece);
      bytes += piece.length;
    }),
    createWriteStream(unnamed),
    { signal },
  );
  const hex = digest.digest("hex");
  await rename(unnamed, path.join(directory, "blobs/sha256", hex));
  return { digest: `sha256:${hex}`, diffId: `sha256:${diffId.digest("hex")}`, bytes };
}

function passing(see: (piece: Buffer) => void): Transform {
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      see(piece);
      done(null, piece);
    },
  });
}
