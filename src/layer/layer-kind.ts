import { SkimError } from "../base/errors.js";
import type { Descriptor } from "../image/manifest.js";
import { isEncryptedLayerType, isForeignLayerType, isTarLayerType } from "../image/media-types.js";
import type { CompressionName } from "../native/binding.js";
import { BlockKind, blockKind, TAR_BLOCK_BYTES, viewOf } from "./tar-header.js";

/**
 * What kind of layer a blob is: first by its descriptor, which can say that its bytes are of no use, then by the first bytes, which alone
 * say how they are stored. Media types lie: docker labels a plain tar gzip, builders label zstd gzip.
 */

/** Bytes of the blob's beginning that `sniffCompression` wants to see, or all where there are fewer. */
export const SNIFF_BYTES = TAR_BLOCK_BYTES;

/**
 * Throws LAYER_UNSUPPORTED for layers that nobody can read from this registry or without a key, before anything is fetched. Returns
 * what is odd about the descriptor, one sentence each.
 */
export function classifyLayer(descriptor: Descriptor, where: string): string[] {
  const { mediaType } = descriptor;
  if (isForeignLayerType(mediaType)) {
    const url = descriptor.urls?.find((text) => URL.canParse(text));
    const elsewhere = url ? ` (at ${new URL(url).host})` : "";
    throw new SkimError(
      "LAYER_UNSUPPORTED",
      `${where}: a foreign layer (${mediaType}), whose bytes are kept outside the registry${elsewhere}; push the image with its layers, e.g. with skopeo copy, or choose a Linux image`,
    );
  }
  if (isEncryptedLayerType(mediaType)) {
    throw new SkimError(
      "LAYER_UNSUPPORTED",
      `${where}: an encrypted layer (${mediaType}); decrypt the image first, e.g. with skopeo copy --decryption-key`,
    );
  }
  return isTarLayerType(mediaType) ? [] : [`its media type ${JSON.stringify(mediaType)} is none of a layer`];
}

/** The sentence for a layer that is stored otherwise than its media type says; undefined where they agree or the type says nothing. */
export function mediaTypeWarning(mediaType: string, compression: CompressionName): string | undefined {
  if (!isTarLayerType(mediaType)) return undefined;
  const declared: CompressionName = /[+.]gzip$/.test(mediaType)
    ? "gzip"
    : /[+.]zstd$/.test(mediaType)
      ? "zstd"
      : "none";
  if (declared === compression) return undefined;
  return `its media type ${mediaType} says ${storageText[declared]}, its bytes are ${storageText[compression]}`;
}

const storageText: Record<CompressionName, string> = { none: "a plain tar", gzip: "gzip", zstd: "zstd" };

/** Kinds that people push as layers and that skim does not read. */
const foreignMagics: ReadonlyArray<readonly [magic: string, name: string]> = [
  ["fd377a585a00", "xz"],
  ["425a68", "bzip2"],
  ["04224d18", "lz4"],
  ["5d0000", "lzma"],
  ["4c5a4950", "lzip"],
  ["377abcaf271c", "7z"],
  ["504b0304", "zip"],
  ["68737173", "a squashfs image"],
  ["7f454c46", "an ELF file"],
  ["0061736d", "a WebAssembly module"],
];

/**
 * How the bytes are stored, by the first SNIFF_BYTES (or all) of them. No bytes at all are an empty plain tar.
 * Throws LAYER_UNSUPPORTED naming what was found instead.
 */
export function sniffCompression(first: Buffer, where: string): CompressionName {
  // RFC 1952: the two magic bytes, and 8 for deflate, the only method there is.
  if (first.length >= 3 && first[0] === 0x1f && first[1] === 0x8b && first[2] === 8) return "gzip";
  // RFC 8878: a frame, or a skippable frame before it.
  if (first.length >= 4) {
    const magic = first.readUInt32LE(0);
    if (magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50) return "zstd";
  }
  if (first.length === 0) return "none";
  if (first.length >= TAR_BLOCK_BYTES && blockKind(first, viewOf(first), 0) !== BlockKind.other)
    return "none";
  const hex = first.toString("hex", 0, 8);
  const known = foreignMagics.find(([magic]) => hex.startsWith(magic));
  const found = known ? known[1] : `something that starts with ${hex}`;
  throw new SkimError(
    "LAYER_UNSUPPORTED",
    `${where}: it is ${found}, not a tar, plain or in gzip or zstd; build the image with gzip or zstd layers`,
  );
}
