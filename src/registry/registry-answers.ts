import type { ByteRange } from "../base/byte-range.js";
import { isSkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { type Digest, isDigest } from "../image/digest.js";
import { parseManifestOrIndex } from "../image/manifest.js";
import { entriesTagged, layoutTags, type OciLayout, type OpenBlob } from "./oci-layout.js";
import { parseRangeHeader } from "./range-header.js";

/**
 * What a read-only registry answers (distribution spec, endpoints end-1, end-2, end-3 and end-8a), apart from how it is sent: status, headers,
 * and where the body comes from. HEAD gets the answer of GET, whose body is then left out.
 */
export interface RegistryAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Bytes in memory, or a range of a blob, which whoever sends it closes. */
  readonly body: Uint8Array | { readonly blob: OpenBlob; readonly range: ByteRange };
}

export interface RegistryQuery {
  readonly method: string;
  /** Path of the URL, percent escapes as sent: no name of the protocol needs one. */
  readonly path: string;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
}

const repositoryPattern =
  /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const routePattern = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/;

/** `repository`: the only name that is known; undefined: every well-formed name is the layout. */
export async function answerQuery(
  layout: OciLayout,
  repository: string | undefined,
  query: RegistryQuery,
): Promise<RegistryAnswer> {
  if (query.method !== "GET" && query.method !== "HEAD") {
    const answer = refusal(405, "UNSUPPORTED", "this registry is read-only");
    return { ...answer, headers: { ...answer.headers, allow: "GET, HEAD" } };
  }
  if (query.path === "/v2/" || query.path === "/v2") return jsonAnswer(200, {});
  const route = routePattern.exec(query.path);
  if (!route) return refusal(404, "UNSUPPORTED", "no such endpoint");
  const [, name, kind, item] = route as unknown as [string, string, string, string];
  if (name.length > 255 || !repositoryPattern.test(name)) {
    return refusal(404, "NAME_INVALID", "not the name of a repository");
  }
  if (repository !== undefined && name !== repository)
    return refusal(404, "NAME_UNKNOWN", "no such repository");
  if (kind === "manifests") return await answerManifest(layout, item);
  if (kind === "blobs") return await answerBlob(layout, item, query);
  if (item !== "list") return refusal(404, "UNSUPPORTED", "no such endpoint");
  return jsonAnswer(200, { name, tags: layoutTags(await layout.imageIndex()) });
}

async function answerManifest(layout: OciLayout, item: string): Promise<RegistryAnswer> {
  const unknown = () => refusal(404, "MANIFEST_UNKNOWN", `no manifest ${item.slice(0, 200)}`);
  let digest: Digest | undefined;
  let mediaType: string | undefined;
  if (isDigest(item)) digest = item;
  else {
    const index = await layout.imageIndex();
    // A layout need not have tags; its only image is then what people ask for without one.
    const untagged = item === "latest" && index.manifests.length === 1 && layoutTags(index).length === 0;
    const entry = untagged ? index.manifests[0] : entriesTagged(index, item)[0];
    digest = entry?.digest;
    mediaType = entry?.mediaType || undefined;
  }
  if (!digest) return unknown();
  try {
    const bytes = await layout.smallBlob(digest, limits.manifestBytesMax);
    const parsed = parseManifestOrIndex(bytes, mediaType, digest);
    const own = parsed.kind === "manifest" ? parsed.manifest.mediaType : parsed.index.mediaType;
    return {
      status: 200,
      headers: {
        "content-type": mediaType ?? own,
        "content-length": String(bytes.length),
        "docker-content-digest": digest,
        etag: `"${digest}"`,
      },
      body: bytes,
    };
  } catch (error) {
    // A blob that is no manifest is no manifest, whatever else it is.
    if (isSkimError(error, "LOCAL_IO") || !isSkimError(error)) throw error;
    return unknown();
  }
}

async function answerBlob(layout: OciLayout, item: string, query: RegistryQuery): Promise<RegistryAnswer> {
  if (!isDigest(item)) return refusal(404, "DIGEST_INVALID", "not a sha256 or sha512 digest");
  let blob: OpenBlob;
  try {
    blob = await layout.openBlob(item);
  } catch (error) {
    if (isSkimError(error, "LOCAL_IO") || !isSkimError(error)) throw error;
    return refusal(404, "BLOB_UNKNOWN", `no blob ${item}`);
  }
  const etag = `"${item}"`;
  const headers = {
    "content-type": "application/octet-stream",
    "accept-ranges": "bytes",
    "docker-content-digest": item,
    etag,
  };
  // RFC 9110 13.1.5: a range of something else than the client has the rest of is no use.
  const usable = query.ifRange === undefined || query.ifRange === etag;
  const range = usable ? parseRangeHeader(query.range, blob.size) : undefined;
  if (range === "unsatisfiable") {
    await blob.close();
    const answer = refusal(416, "RANGE_INVALID", `the blob has ${blob.size} bytes`);
    return { ...answer, headers: { ...answer.headers, "content-range": `bytes */${blob.size}` } };
  }
  const whole = { start: 0, end: blob.size };
  if (!range) {
    return {
      status: 200,
      headers: { ...headers, "content-length": String(blob.size) },
      body: { blob, range: whole },
    };
  }
  return {
    status: 206,
    headers: {
      ...headers,
      "content-length": String(range.end - range.start),
      "content-range": `bytes ${range.start}-${range.end - 1}/${blob.size}`,
    },
    body: { blob, range },
  };
}

/** An error body as the distribution spec has it. */
export function refusal(status: number, code: string, message: string): RegistryAnswer {
  return jsonAnswer(status, { errors: [{ code, message }] });
}

function jsonAnswer(status: number, value: unknown): RegistryAnswer {
  const body = Buffer.from(JSON.stringify(value));
  return {
    status,
    headers: { "content-type": "application/json", "content-length": String(body.length) },
    body,
  };
}
