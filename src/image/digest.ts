import { createHash } from "node:crypto";
import { SkimError } from "../base/errors.js";

declare const digestBrand: unique symbol;
/** `algorithm:hex` as in the OCI image spec; sha256 or sha512. Names stored bytes; see DiffId for uncompressed ones. */
export type Digest = string & { readonly [digestBrand]: true };

/** The digest of a layer's *uncompressed* tar stream, as the image config lists it in `rootfs.diff_ids`. */
export type DiffId = Digest;

const hexLength: Record<string, number> = { sha256: 64, sha512: 128 };

export function isDigest(text: unknown): text is Digest {
  if (typeof text !== "string") return false;
  const colon = text.indexOf(":");
  const length = hexLength[text.slice(0, Math.max(colon, 0))];
  return (
    length !== undefined && text.length === colon + 1 + length && /^[0-9a-f]+$/.test(text.slice(colon + 1))
  );
}

/** Throws IMAGE_INVALID naming `where` for anything but a well-formed digest of a known algorithm. */
export function parseDigest(text: unknown, where: string): Digest {
  if (isDigest(text)) return text;
  throw new SkimError("IMAGE_INVALID", `${where}: ${JSON.stringify(text)} is not a sha256 or sha512 digest`);
}

export function digestAlgorithm(digest: Digest): "sha256" | "sha512" {
  return digest.startsWith("sha512:") ? "sha512" : "sha256";
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

export function digestOf(bytes: Uint8Array, algorithm: "sha256" | "sha512" = "sha256"): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}` as Digest;
}
