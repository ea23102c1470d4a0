/**
 * Which image an archive is of: the identity section, and what ties it to the registry's own bytes. The manifest must have
 * the digest that the identity names, the config the one that the manifest names; from there on the manifest and config of
 * the archive are as trustworthy as the reference was when the image was indexed.
 */
import { describeError, SkimError } from "../base/errors.js";
import { JsonObject } from "../base/json-object.js";
import { limits } from "../base/limits.js";
import { type ImageConfig, parseImageConfig } from "../image/config.js";
import { type Digest, digestAlgorithm, digestOf, isDigest } from "../image/digest.js";
import { type Manifest, parseManifestOrIndex } from "../image/manifest.js";
import type { ArchiveIdentity } from "./archive.js";
import type { Refuse } from "./refusal.js";

/** Warnings are for people: what does not fit is counted, not kept, so that an odd image of millions of files stays readable. */
const warningsMax = 1000;
const warningCharactersMax = 1024 * 1024;
/** The warnings (each character at most 6 bytes as JSON: \\u0000) and ample room for the rest. */
const identityBytesMax = 8 * 1024 * 1024;

/** The bytes of the section: JSON without white space, keys in the order of FORMAT.md. */
export function encodeIdentity(identity: ArchiveIdentity): Buffer {
  const { os, architecture, variant } = identity.platform;
  return Buffer.from(
    JSON.stringify({
      reference: identity.reference,
      manifestDigest: identity.manifestDigest,
      manifestMediaType: identity.manifestMediaType,
      platform: { os, architecture, ...(variant ? { variant } : {}) },
      spanBytes: identity.spanBytes,
      warnings: identity.warnings,
    }),
  );
}

/** As many of the warnings as an archive keeps, and in place of the others a sentence that counts them. */
export function keptWarnings(warnings: readonly string[]): readonly string[] {
  let characters = 0;
  const over = warnings.findIndex((warning, i) => {
    characters += warning.length;
    return i >= warningsMax || characters > warningCharactersMax;
  });
  return over < 0
    ? warnings
    : [...warnings.slice(0, over), `${warnings.length - over} more warnings were left out`];
}

/** Reads the section. Only the one encoding of an identity is taken. Throws ARCHIVE_DAMAGED. */
export function decodeIdentity(bytes: Buffer, refuse: Refuse): ArchiveIdentity {
  if (bytes.length > identityBytesMax) {
    throw refuse("identity", undefined, `${bytes.length} bytes are more than ${identityBytesMax}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw refuse("identity", undefined, "not JSON", { cause });
  }
  const identity = identityIn(json, refuse);
  // White space, another order of keys, a key twice, bytes that are no UTF-8: all of them do not come back the same.
  if (!encodeIdentity(identity).equals(bytes)) {
    throw refuse("identity", undefined, "not in the one form that its JSON may have");
  }
  return identity;
}

function identityIn(json: unknown, refuse: Refuse): ArchiveIdentity {
  try {
    const fields = new JsonObject(json);
    const platform = fields.object("platform");
    const identity = {
      reference: fields.text("reference", 1),
      manifestDigest: fields.custom("manifestDigest", isDigest, "not a sha256 or sha512 digest"),
      manifestMediaType: fields.text("manifestMediaType"),
      platform: {
        os: platform.text("os", 1),
        architecture: platform.text("architecture", 1),
        ...(platform.has("variant") ? { variant: platform.text("variant", 1) } : {}),
      },
      spanBytes: fields.integer("spanBytes", 1, limits.spanBytesMax),
      warnings: fields.texts("warnings"),
    };
    fields.only(...Object.keys(identity));
    platform.only("os", "architecture", "variant");
    return identity;
  } catch (cause) {
    throw refuse("identity", undefined, describeError(cause));
  }
}

/**
 * Parses manifest and config after checking their digests. Throws ARCHIVE_DAMAGED naming the section. The parsers' own errors, and
 * whatever else hostile JSON makes them throw, are the cause.
 */
export function decodeImage(
  identity: Pick<ArchiveIdentity, "manifestDigest" | "manifestMediaType">,
  manifestBytes: Uint8Array,
  configBytes: Uint8Array,
  refuse: Refuse,
): { manifest: Manifest; config: ImageConfig } {
  const { manifestDigest, manifestMediaType } = identity;
  requireDigest("manifest", manifestBytes, limits.manifestBytesMax, manifestDigest, refuse);
  const parsed = parsing("manifest", refuse, () =>
    parseManifestOrIndex(manifestBytes, manifestMediaType, "manifest"),
  );
  if (parsed.kind !== "manifest") {
    throw refuse("manifest", undefined, "an image index, not the manifest of one platform");
  }
  const { manifest } = parsed;
  requireDigest("config", configBytes, limits.configBytesMax, manifest.config.digest, refuse);
  return { manifest, config: parsing("config", refuse, () => parseImageConfig(configBytes, "config")) };
}

function requireDigest(
  section: string,
  bytes: Uint8Array,
  bytesMax: number,
  digest: Digest,
  refuse: Refuse,
): void {
  if (bytes.length > bytesMax)
    throw refuse(section, undefined, `${bytes.length} bytes are more than ${bytesMax}`);
  const found = digestOf(bytes, digestAlgorithm(digest));
  if (found !== digest) throw refuse(section, undefined, `its digest is ${found}, not ${digest}`);
}

function parsing<T>(section: string, refuse: Refuse, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    const what = cause instanceof SkimError ? cause.message : "it cannot be parsed";
    throw refuse(section, undefined, what, { cause });
  }
}
