/** Media types of the OCI image spec 1.1 and docker's schema 2, and what each says of a descriptor. */
export const mediaTypes = {
  ociImageIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayerTar: "application/vnd.oci.image.layer.v1.tar",
  ociLayerGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociLayerZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  dockerManifestList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerManifestV1: "application/vnd.docker.distribution.manifest.v1+json",
  dockerManifestV1Signed: "application/vnd.docker.distribution.manifest.v1+prettyjws",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  dockerLayerTar: "application/vnd.docker.image.rootfs.diff.tar",
} as const;

/** What a manifest request accepts, in order of preference. */
export const manifestAccept = [
  mediaTypes.ociImageIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerManifestList,
  mediaTypes.dockerManifest,
].join(", ");

export function isImageIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociImageIndex || mediaType === mediaTypes.dockerManifestList;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest;
}

/** Layers whose bytes are not in the registry that holds the manifest (Windows base layers). */
export function isForeignLayerType(mediaType: string): boolean {
  return /\.foreign\.|\.nondistributable\./.test(mediaType);
}

/** ocicrypt's layers: `...+encrypted`. */
export function isEncryptedLayerType(mediaType: string): boolean {
  return mediaType.endsWith("+encrypted");
}

/** True for every type that is a tar in some compression. What the compression is, the bytes say: types lie. */
export function isTarLayerType(mediaType: string): boolean {
  return /(^|[./])(layer\.v1|rootfs\.diff)\.tar(\.|\+|$)/.test(mediaType);
}
