/** An OCI layout with one image whose only layer is a tar, stored as it is. */
import { mkdir, rename } from "node:fs/promises";
import path from "node:path";
import { mediaTypes } from "../../src/image/media-types.js";
import { putBlob, tagManifest } from "../../test/support/oci-layout.js";
import type { WrittenTar } from "./tar-tree.js";

/** Makes the layout at `directory`, and tags the image. The tar is moved into it; resolves to where it is now. */
export async function layoutOfTar(directory: string, tag: string, tar: WrittenTar): Promise<string> {
  const blobs = path.join(directory, "blobs/sha256");
  await mkdir(blobs, { recursive: true });
  const blob = path.join(blobs, tar.sha256);
  await rename(tar.file, blob);
  const digest = `sha256:${tar.sha256}`;
  const config = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: [digest] },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: {
        mediaType: mediaTypes.ociConfig,
        digest: await putBlob(directory, config),
        size: config.length,
      },
      layers: [{ mediaType: mediaTypes.ociLayerTar, digest, size: tar.bytes }],
    }),
  );
  const manifestDigest = await putBlob(directory, manifest);
  await tagManifest(directory, tag, mediaTypes.ociManifest, manifestDigest, manifest.length);
  return blob;
}
