import { type Digest, digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import type { FakeStorage } from "./fake-storage.js";
import type { FakeAnswer, SeenRequest } from "./fault-script.js";
import { rangeAnswer } from "./range-answer.js";
import { ScriptedServer, type ServerStart } from "./scripted-server.js";

/**
 * A registry that misbehaves on command: a real HTTP server on loopback with images in memory. Requests are answered as the distribution
 * spec has it, until `script` (or `fail`) gives some of them a fault; network-faults.ts has those that are seen in the wild.
 */
export type FakeAuth =
  | { kind: "none" }
  | { kind: "basic"; username: string; password: string }
  | {
      kind: "bearer";
      /** Undefined: anybody gets a token. */
      username?: string;
      password?: string;
      /** A refresh token that is good for a POST. */
      identityToken?: string;
      lifetimeSeconds?: number;
      /** What a bad token is answered with; ECR says 403 and challenges nobody. */
      refusal?: 401 | 403;
      /** The whole challenge, in place of one for this server's own /token. */
      challenge?: string | string[];
      /** Realm of the challenge; default: this server's own /token. */
      realm?: string;
    };

export class FakeRegistry extends ScriptedServer {
  auth: FakeAuth = { kind: "none" };
  /** Blobs are redirected there, with a signed URL each time. */
  storage: FakeStorage | undefined;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, { bytes: Buffer; mediaType: string | undefined }>();
  readonly #tokens = new Set<string>();
  #tokenCount = 0;

  static async start(auth: FakeAuth = { kind: "none" }, start?: ServerStart): Promise<FakeRegistry> {
    const registry = new FakeRegistry();
    registry.auth = auth;
    await registry.listen(start);
    return registry;
  }

  addBlob(bytes: Uint8Array): { digest: Digest; size: number } {
    const digest = digestOf(bytes);
    this.replaceBlob(digest, bytes);
    return { digest, size: bytes.length };
  }

  /** From now on these bytes are what is sent for `digest`, whatever theirs is. */
  replaceBlob(digest: Digest, bytes: Uint8Array): void {
    this.#blobs.set(digest, Buffer.from(bytes));
    this.storage?.put(digest, Buffer.from(bytes));
  }

  /** Blobs that are there already, and those to come, are read from `storage`. */
  redirectTo(storage: FakeStorage): void {
    this.storage = storage;
    for (const [digest, bytes] of this.#blobs) storage.put(digest, bytes);
  }

  addManifest(content: object | Buffer, options: { tag?: string; mediaType?: string | undefined } = {}) {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    const mediaType =
      "mediaType" in options ? options.mediaType : (content as { mediaType?: string }).mediaType;
    for (const name of [digest, ...(options.tag ? [options.tag] : [])]) {
      this.#manifests.set(name, { bytes, mediaType });
    }
    return { digest, size: bytes.length, mediaType: mediaType ?? "" };
  }

  /** An image with one layer for a platform. */
  addImage(options: {
    tag?: string;
    architecture?: string;
    variant?: string;
    layer?: Uint8Array;
    configType?: string;
  }) {
    const layer = this.addBlob(options.layer ?? Buffer.from(`layer for ${options.architecture}`));
    const config = this.addBlob(
      Buffer.from(
        JSON.stringify({
          os: "linux",
          architecture: options.architecture ?? "amd64",
          ...(options.variant ? { variant: options.variant } : {}),
          rootfs: { type: "layers", diff_ids: [layer.digest] },
        }),
      ),
    );
    const manifest = this.addManifest(
      {
        schemaVersion: 2,
        mediaType: mediaTypes.ociManifest,
        config: { mediaType: options.configType ?? mediaTypes.ociConfig, ...config },
        layers: [{ mediaType: mediaTypes.ociLayerTar, ...layer }],
      },
      options.tag ? { tag: options.tag } : {},
    );
    return { manifest, config, layer };
  }

  /** From now on every token given so far is refused. */
  revokeTokens(): void {
    this.#tokens.clear();
  }

  protected answerTo(seen: SeenRequest): FakeAnswer {
    if (seen.kind === "token") return this.#tokenAnswer(seen);
    const refusal = this.#refusal(seen);
    if (refusal) return refusal;
    if (seen.kind === "version") return { status: 200, headers: {}, body: Buffer.from("{}") };
    return this.#contentAnswer(seen);
  }

  #contentAnswer(seen: SeenRequest): FakeAnswer {
    const name = seen.path.slice(seen.path.lastIndexOf("/") + 1);
    const manifest = seen.kind === "manifest" ? this.#manifests.get(name) : undefined;
    const blob = seen.kind === "blob" ? this.#blobs.get(name) : undefined;
    if (manifest) {
      const { bytes, mediaType } = manifest;
      const headers = {
        ...(mediaType ? { "content-type": mediaType } : {}),
        "docker-content-digest": digestOf(bytes),
        "content-length": String(bytes.length),
      };
      return { status: 200, headers, body: bytes };
    }
    if (blob && this.storage) {
      return { status: 307, headers: { location: this.storage.signedUrl(name) }, body: Buffer.alloc(0) };
    }
    if (blob) return rangeAnswer(blob, seen.headers.range);
    return seen.kind === "blob"
      ? errorAnswer(404, "BLOB_UNKNOWN", "blob unknown to registry")
      : errorAnswer(404, "MANIFEST_UNKNOWN", "manifest unknown");
  }

  #refusal(seen: SeenRequest): FakeAnswer | undefined {
    const { auth } = this;
    const given = seen.headers.authorization;
    if (auth.kind === "none") return undefined;
    if (auth.kind === "basic") {
      if (given === basicHeader(auth.username, auth.password)) return undefined;
      return challengeAnswer('Basic realm="fake, quoted \\"realm\\""');
    }
    if (given?.startsWith("Bearer ") && this.#tokens.has(given.slice(7))) return undefined;
    if (auth.refusal === 403 && given)
      return errorAnswer(403, "DENIED", "Your authorization token has expired");
    const realm = auth.realm ?? `${this.url}/token`;
    const scope =
      seen.path === "/v2/" ? "" : `,scope="repository:${seen.path.split("/").slice(2, -2).join("/")}:pull"`;
    const challenge = `Bearer realm="${realm}",service="fake, the service"${scope}`;
    return challengeAnswer(auth.challenge ?? challenge);
  }

  #tokenAnswer(seen: SeenRequest): FakeAnswer {
    const { auth } = this;
    const none = { headers: {}, body: Buffer.alloc(0) };
    if (auth.kind !== "bearer") return { ...none, status: 404 };
    const good =
      seen.method === "POST"
        ? new URLSearchParams(seen.body).get("refresh_token") === auth.identityToken
        : auth.username === undefined ||
          seen.headers.authorization === basicHeader(auth.username, auth.password ?? "");
    if (!good)
      return { ...none, status: 401, body: Buffer.from('{"details":"incorrect username or password"}') };
    const token = `secret-token-${++this.#tokenCount}`;
    this.#tokens.add(token);
    const name = seen.method === "POST" ? "access_token" : "token";
    const body = JSON.stringify({ [name]: token, expires_in: auth.lifetimeSeconds ?? 300 });
    return { ...none, status: 200, body: Buffer.from(body) };
  }
}

export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

function challengeAnswer(challenge: string | string[]): FakeAnswer {
  const answer = errorAnswer(401, "UNAUTHORIZED", "authentication required");
  return { ...answer, headers: { ...answer.headers, "www-authenticate": challenge } };
}

function errorAnswer(status: number, code: string, message: string): FakeAnswer {
  const body = Buffer.from(JSON.stringify({ errors: [{ code, message, detail: null }] }));
  return { status, headers: { "content-type": "application/json" }, body };
}
