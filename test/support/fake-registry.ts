import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Digest, digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { parseRangeHeader } from "../../src/registry/range-header.js";

/**
 * A registry that misbehaves on command: a real HTTP server on loopback with images in memory. Requests are answered as the distribution
 * spec has it, until `fail` gives the next ones a fault. It remembers every request it has seen.
 */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers a request in place of the registry; `next` answers as if nothing were wrong. */
export type Fault = (exchange: {
  seen: SeenRequest;
  response: ServerResponse;
  socket: Socket;
  next: () => void;
}) => void;

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
      /** Realm of the challenge; default: this server's own /token. */
      realm?: string;
    };

export class FakeRegistry {
  readonly host: string;
  readonly url: string;
  readonly seen: SeenRequest[] = [];
  auth: FakeAuth = { kind: "none" };
  /** Connections accepted so far. */
  connections = 0;
  readonly #server;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, { bytes: Buffer; mediaType: string | undefined }>();
  readonly #faults: Array<{ path: RegExp; fault: Fault; times: number }> = [];
  readonly #tokens = new Set<string>();
  #tokenCount = 0;

  static async start(auth: FakeAuth = { kind: "none" }): Promise<FakeRegistry> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const registry = new FakeRegistry(server, (server.address() as AddressInfo).port);
    registry.auth = auth;
    return registry;
  }

  private constructor(server: ReturnType<typeof createServer>, port: number) {
    this.#server = server;
    this.host = `127.0.0.1:${port}`;
    this.url = `http://${this.host}`;
    server.on("connection", () => this.connections++);
    server.on("request", (request, response) => void this.#answer(request, response));
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  /** The next `times` requests whose path matches are answered by `fault`; faults queue up. */
  fail(path: RegExp, fault: Fault, times = 1): void {
    this.#faults.push({ path, fault, times });
  }

  addBlob(bytes: Uint8Array): { digest: Digest; size: number } {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, Buffer.from(bytes));
    return { digest, size: bytes.length };
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

  requestsTo(path: RegExp): SeenRequest[] {
    return this.seen.filter((request) => path.test(request.path));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const body: Buffer[] = [];
    for await (const piece of request) body.push(piece);
    const seen: SeenRequest = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: Buffer.concat(body).toString(),
    };
    this.seen.push(seen);
    const next = () => this.#serve(seen, response);
    const planned = this.#faults.find((each) => each.times > 0 && each.path.test(seen.path));
    if (!planned) return next();
    planned.times--;
    planned.fault({ seen, response, socket: request.socket, next });
  }

  #serve(seen: SeenRequest, response: ServerResponse): void {
    const refusal = this.#refusal(seen);
    if (seen.path === "/token") this.#serveToken(seen, response);
    else if (refusal) refusal(response);
    else if (seen.path === "/v2/") response.writeHead(200).end("{}");
    else this.#serveContent(seen, response);
  }

  #serveContent(seen: SeenRequest, response: ServerResponse): void {
    const [, kind, name] = /\/(manifests|blobs)\/([^/]+)$/.exec(seen.path) ?? [];
    const manifest = kind === "manifests" ? this.#manifests.get(name ?? "") : undefined;
    const blob = kind === "blobs" ? this.#blobs.get(name ?? "") : undefined;
    if (manifest) {
      if (manifest.mediaType) response.setHeader("content-type", manifest.mediaType);
      response.setHeader("docker-content-digest", digestOf(manifest.bytes));
      response.end(manifest.bytes);
    } else if (blob) sendRange(response, blob, seen.headers.range);
    else if (kind === "blobs") sendError(response, 404, "BLOB_UNKNOWN", "blob unknown to registry");
    else sendError(response, 404, "MANIFEST_UNKNOWN", "manifest unknown");
  }

  #refusal(seen: SeenRequest): ((response: ServerResponse) => void) | undefined {
    const { auth } = this;
    const given = seen.headers.authorization;
    if (auth.kind === "none") return undefined;
    if (auth.kind === "basic") {
      if (given === basicHeader(auth.username, auth.password)) return undefined;
      return (response) => {
        response.setHeader("www-authenticate", 'Basic realm="fake, quoted \\"realm\\""');
        sendError(response, 401, "UNAUTHORIZED", "authentication required");
      };
    }
    if (given?.startsWith("Bearer ") && this.#tokens.has(given.slice(7))) return undefined;
    return (response) => {
      if (auth.refusal === 403 && given)
        return sendError(response, 403, "DENIED", "Your authorization token has expired");
      const realm = auth.realm ?? `${this.url}/token`;
      const scope =
        seen.path === "/v2/" ? "" : `,scope="repository:${seen.path.split("/").slice(2, -2).join("/")}:pull"`;
      response.setHeader("www-authenticate", `Bearer realm="${realm}",service="fake, the service"${scope}`);
      sendError(response, 401, "UNAUTHORIZED", "authentication required");
    };
  }

  #serveToken(seen: SeenRequest, response: ServerResponse): void {
    const { auth } = this;
    if (auth.kind !== "bearer") return void response.writeHead(404).end();
    const good =
      seen.method === "POST"
        ? new URLSearchParams(seen.body).get("refresh_token") === auth.identityToken
        : auth.username === undefined ||
          seen.headers.authorization === basicHeader(auth.username, auth.password ?? "");
    if (!good) return void response.writeHead(401).end('{"details":"incorrect username or password"}');
    const token = `secret-token-${++this.#tokenCount}`;
    this.#tokens.add(token);
    const name = seen.method === "POST" ? "access_token" : "token";
    response.end(JSON.stringify({ [name]: token, expires_in: auth.lifetimeSeconds ?? 300 }));
  }
}

export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** Sends `bytes`, or the range of it that is asked for. */
export function sendRange(response: ServerResponse, bytes: Buffer, rangeHeader: string | undefined): void {
  const range = parseRangeHeader(rangeHeader, bytes.length);
  if (range === "unsatisfiable")
    return void response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
  if (!range) return void response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  const piece = bytes.subarray(range.start, range.end);
  response.writeHead(206, {
    "content-range": `bytes ${range.start}-${range.end - 1}/${bytes.length}`,
    "content-length": piece.length,
  });
  response.end(piece);
}

function sendError(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ errors: [{ code, message, detail: null }] }));
}

/** Faults that several tests want. */
export const faults = {
  status:
    (status: number, headers: Record<string, string> = {}, body = ""): Fault =>
    ({ response }) =>
      void response.writeHead(status, headers).end(body),
  redirect:
    (location: string, status = 307): Fault =>
    ({ response }) =>
      void response.writeHead(status, { location }).end(),
  /** The connection is gone before a byte of the answer. */
  reset:
    (): Fault =>
    ({ socket }) =>
      void socket.resetAndDestroy(),
  /** Nothing comes, and the connection stays. */
  silence: (): Fault => () => {},
};
