import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, isIPv6 } from "node:net";
import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { OciLayout } from "./oci-layout.js";
import { answerQuery, type RegistryAnswer, refusal } from "./registry-answers.js";

/**
 * A read-only registry that serves one OCI layout directory over plain HTTP: for the demo, for tests, and to try skim (or skopeo, or
 * docker) without a registry. The layout is read anew for each request, so that images added to it are there at once.
 */
export interface EmbeddedRegistryOptions {
  /** The layout directory. */
  readonly layout: string;
  /** Address to listen on. Default 127.0.0.1: there is no authentication. */
  readonly host?: string;
  /** Default 0: a free one. */
  readonly port?: number;
  /** The only repository there is. Default: every name answers with the same images. */
  readonly repository?: string;
  /** Called when an answer has been sent or broken off. */
  readonly onRequest?: (request: ServedRequest) => void;
  readonly logger?: Logger;
}

export interface ServedRequest {
  readonly method: string;
  readonly path: string;
  /** The Range header, where there was one. */
  readonly range: string | undefined;
  readonly status: number;
  /** Bytes of the body that were handed to the network. */
  readonly bodyBytes: number;
}

export interface EmbeddedRegistry {
  /** e.g. `http://127.0.0.1:41234`. */
  readonly url: string;
  /** As in an image name, e.g. `127.0.0.1:41234`. */
  readonly host: string;
  readonly counters: Readonly<{
    requests: number;
    blobRequests: number;
    rangeRequests: number;
    bytesSent: number;
  }>;
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

/** Of a blob at a time: what it is read to is used again, and what it takes to read and send a piece is nearly the same for any length. */
const pieceBytes = 256 * 1024;

/** Throws NOT_FOUND or IMAGE_INVALID where `layout` is none, IN_USE where the port is taken, LOCAL_IO where it cannot listen. */
export async function startEmbeddedRegistry(options: EmbeddedRegistryOptions): Promise<EmbeddedRegistry> {
  const layout = new OciLayout(options.layout, { followLinks: false });
  await layout.imageIndex();
  const logger = options.logger ?? silentLogger;
  const counters = { requests: 0, blobRequests: 0, rangeRequests: 0, bytesSent: 0 };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const method = request.method ?? "";
    const path = (request.url ?? "").split("?", 1)[0]!;
    const { range, "if-range": ifRange } = request.headers;
    counters.requests++;
    if (path.includes("/blobs/")) counters.blobRequests++;
    if (range !== undefined) counters.rangeRequests++;
    request.resume();
    let answer: RegistryAnswer;
    try {
      answer = await answerQuery(layout, options.repository, {
        method,
        path,
        range,
        ifRange: typeof ifRange === "string" ? ifRange : undefined,
      });
    } catch (error) {
      logger.error({ path, reason: describeError(error) }, "request failed");
      answer = refusal(500, "UNKNOWN", "the layout cannot be read");
    }
    let bodyBytes = 0;
    const count = (bytes: number) => {
      bodyBytes += bytes;
      counters.bytesSent += bytes;
    };
    try {
      await send(answer, method === "HEAD", response, count);
    } catch (error) {
      // The client has gone, or the file has become shorter: what it gets must not look complete.
      response.destroy();
      logger.debug({ path, reason: describeError(error) }, "answer broken off");
    }
    logger.debug({ method, path, range, status: answer.status, bodyBytes }, "request served");
    options.onRequest?.({ method, path, range, status: answer.status, bodyBytes });
  };

  const server = createServer((request, response) => void serve(request, response));
  const host = options.host ?? "127.0.0.1";
  await listen(server, options.port ?? 0, host);
  const { port } = server.address() as AddressInfo;
  const name = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  return {
    url: `http://${name}`,
    host: name,
    counters,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function send(
  answer: RegistryAnswer,
  headOnly: boolean,
  response: ServerResponse,
  count: (bytes: number) => void,
): Promise<void> {
  const { status, headers, body } = answer;
  response.writeHead(status, { "docker-distribution-api-version": "registry/2.0", ...headers });
  if (body instanceof Uint8Array) {
    response.end(headOnly ? undefined : body);
    if (!headOnly) count(body.length);
    return;
  }
  try {
    if (headOnly) {
      response.end();
      return;
    }
    const room = Buffer.allocUnsafeSlow(Math.min(pieceBytes, body.range.end - body.range.start));
    for await (const piece of body.blob.pieces(body.range, room)) {
      count(piece.length);
      await written(response, piece);
    }
    response.end();
  } finally {
    await body.blob.close();
  }
}

/** Resolves when the kernel has taken all of it, and rejects when the connection is gone. */
function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error("the connection was closed"));
    if (response.destroyed) return gone();
    response.once("close", gone);
    response.write(bytes, (error) => {
      response.off("close", gone);
      if (error) reject(error);
      else resolve();
    });
  });
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on("error", (cause) => {
      const taken = systemErrorCode(cause) === "EADDRINUSE";
      const found = taken ? "the port is taken; choose another with --port" : describeError(cause);
      reject(
        new SkimError(taken ? "IN_USE" : "LOCAL_IO", `cannot listen on ${host}:${port}: ${found}`, { cause }),
      );
    });
    server.listen(port, host, () => resolve());
  });
}
