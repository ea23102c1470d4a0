import { setImmediate as nextTurn } from "node:timers/promises";
import type { Dispatcher } from "undici";
import { describeError, isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { redact } from "../base/redact.js";
import { isLoopback } from "./endpoint.js";
import { type AnswerHead, Exchange } from "./exchange.js";
import { TransientFailure } from "./retry.js";
import { SocketsAhead } from "./sockets-ahead.js";
import { mendPausedParser } from "./undici-parser.js";

/**
 * One HTTP exchange: connection pools, timeouts, and what a failure of the network means. Nothing here knows of registries.
 *
 * The time limit of an attempt (`attemptTimeoutMs`) holds for connecting, for the time to the first byte once the request has been
 * written, and for each wait between two pieces of the body while somebody wants to read; a request that waits for a free
 * connection is bounded by its caller's signal only. A proxy is used where HTTPS_PROXY, HTTP_PROXY and NO_PROXY say so, never for loopback.
 */

/** HTTP/1.1 has one answer a connection. 16 cover the read-ahead of a busy mount; registries limit clients at about 100. */
const connectionsPerOrigin = 16;
/** Shorter than the idle limits of the load balancers that registries and storage stand behind (S3: 20 s, most others: 60 s). */
const keepAliveMs = 15_000;
/** What is read of the body of a refusal. An OCI error body is below 1 KiB. */
const errorBodyBytesMax = 64 * 1024;
/** A rest that is worth reading to keep its connection. */
const restBytesMax = 64 * 1024;

export interface HttpRequest {
  readonly url: URL;
  readonly method?: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** An answer whose header has arrived. A body of status 2xx must be read or discarded; others have been read to `errorText`. */
export interface HttpResponse {
  readonly url: URL;
  readonly status: number;
  /** Names in lower case; what was sent several times is joined with commas. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Exchange;
  readonly errorText: string;
}

export class Transport {
  readonly counters = { requests: 0, bytes: 0 };
  readonly #attemptTimeoutMs: number;
  readonly #logger: Logger;
  readonly #ahead: SocketsAhead;
  #pools: Promise<ConnectionPools> | undefined;
  /** Once undici is there it opens connections itself. */
  #hasPools = false;
  /** Requests that wait for it. */
  #early = 0;

  constructor(options: { attemptTimeoutMs: number; logger: Logger }) {
    this.#attemptTimeoutMs = options.attemptTimeoutMs;
    this.#ahead = new SocketsAhead(options.attemptTimeoutMs);
    this.#logger = options.logger;
  }

  /** Requests to `origin` are about to come: opens `connections` for the first of them, and gets ready. Does nothing once a request was sent. */
  connectAhead(origin: URL, connections: number): void {
    if (this.#hasPools || (!isLoopback(origin.hostname) && proxyIsConfigured(process.env))) return;
    this.#ahead.ensure(origin, connections);
    this.#openPools().catch(() => {});
  }

  /**
   * Sends a request and waits for the header of its answer, of whatever status. Redirects are not followed.
   * Throws TransientFailure (REGISTRY_UNAVAILABLE) where the network failed, and the reason of `signal`.
   */
  async send(request: HttpRequest, signal: AbortSignal): Promise<HttpResponse> {
    const { url, method = "GET" } = request;
    if (signal.aborted) throw signal.reason;
    this.counters.requests++;
    const startedAt = performance.now();
    if (!this.#hasPools) this.connectAhead(new URL(url.origin), ++this.#early);
    const { direct, outside } = await this.#openPools();
    const dispatcher = isLoopback(url.hostname) ? direct : outside;
    const exchange = new Exchange(signal);
    let head: AnswerHead;
    try {
      const { origin } = url;
      const path = url.pathname + url.search;
      const headers = { "user-agent": "skim", "accept-encoding": "identity", ...request.headers };
      dispatcher.dispatch({ origin, path, method, headers, body: request.body ?? null }, exchange);
      head = await exchange.head;
    } catch (error) {
      throw this.#failure(error, url, signal);
    }
    const { status, headers } = head;
    this.#logger.debug(
      {
        method,
        url: `${url.origin}${url.pathname}`,
        status,
        durationMs: Math.round(performance.now() - startedAt),
      },
      "registry request",
    );
    const response = { url, status, headers, body: exchange, errorText: "" };
    if (status >= 200 && status < 300) return response;
    // Bodies of refusals are read at once: an unread one holds its connection, and a token may have to come over the same pool.
    return { ...response, errorText: await this.#errorText(response, signal) };
  }

  /**
   * The pieces of a body, to its end or `bytesMax`. Leaving the iteration before destroys the connection, and so does a body that goes
   * on beyond `bytesMax`. Throws as `send` does.
   */
  async *pieces(
    response: HttpResponse,
    signal: AbortSignal,
    bytesMax = Number.POSITIVE_INFINITY,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { body, headers, url } = response;
    let left = bytesMax;
    let complete = false;
    let ended = false;
    try {
      for (;;) {
        const pieces = await body.read();
        if (pieces.length === 0) break;
        for (const piece of pieces) {
          this.counters.bytes += piece.length;
          complete = piece.length === left;
          const wanted = piece.length > left ? piece.subarray(0, left) : piece;
          left -= wanted.length;
          yield wanted;
          if (left === 0) return;
        }
      }
      complete = true;
      ended = true;
    } catch (error) {
      throw this.#failure(error, url, signal);
    } finally {
      if (!complete) body.destroy(new Error("the body is not wanted any more"));
      // Where the length says that nothing can follow, the end is at hand, and with it the connection for the next request.
      else if (ended || Number(headers["content-length"]) === bytesMax) await this.discard(response);
      else void this.discard(response);
    }
  }

  /** The whole body. Throws LIMIT_EXCEEDED, with `what` in its message, beyond `bytesMax`. */
  async bytes(response: HttpResponse, bytesMax: number, what: string, signal: AbortSignal): Promise<Buffer> {
    const tooLong = () =>
      new SkimError(
        "LIMIT_EXCEEDED",
        `${what}: longer than ${bytesMax} bytes, which is more than skim reads`,
      );
    if (Number(response.headers["content-length"] ?? 0) > bytesMax) {
      void this.discard(response);
      throw tooLong();
    }
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of this.pieces(response, signal)) {
      length += piece.length;
      if (length > bytesMax) throw tooLong();
      pieces.push(piece);
    }
    return Buffer.concat(pieces, length);
  }

  /**
   * Lets go of a body: a short rest is read so that the connection can be used again, a long one is cut with it. Resolves when that
   * is done, never rejects; only who wants the connection needs to wait.
   */
  async discard(response: HttpResponse): Promise<void> {
    await response.body.discard(restBytesMax);
    // undici gives the connection out again in the next turn; before that, it would open another one for the next request.
    await nextTurn();
  }

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#ahead.close();
    const pools = await this.#pools;
    await pools?.direct.destroy();
    if (pools?.outside !== pools?.direct) await pools?.outside.destroy();
  }

  /** A failure (a file of undici that cannot be read just now) is not remembered. */
  #openPools(): Promise<ConnectionPools> {
    this.#pools ??= openPools(this.#attemptTimeoutMs, this.#ahead).then(
      (pools) => {
        this.#hasPools = true;
        return pools;
      },
      (error: unknown) => {
        this.#pools = undefined;
        throw error;
      },
    );
    return this.#pools;
  }

  async #errorText(response: HttpResponse, signal: AbortSignal): Promise<string> {
    const pieces: Buffer[] = [];
    try {
      for await (const piece of this.pieces(response, signal, errorBodyBytesMax)) pieces.push(piece);
    } catch (error) {
      // The status is what counts; where the text breaks off, what came of it will do.
      if (signal.aborted) throw error;
    }
    return Buffer.concat(pieces).toString("utf8");
  }

  #failure(error: unknown, url: URL, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    if (isSkimError(error) || error instanceof TransientFailure) return error;
    const detail = redact(describeError(error));
    const code = systemErrorCode(error) ?? "";
    if (code === "UND_ERR_DESTROYED" || code === "UND_ERR_CLOSED") {
      return new SkimError("CANCELLED", `${url.host}: the image source was closed`, { cause: error });
    }
    const advice = adviceFor(code, detail, url);
    if (advice) {
      return new SkimError("REGISTRY_UNAVAILABLE", `${url.host}: ${detail}; ${advice}`, { cause: error });
    }
    const timedOut = /^UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT$/.test(code);
    const found = timedOut ? `no answer for ${this.#attemptTimeoutMs} ms (${detail})` : detail;
    return new TransientFailure(
      new SkimError("REGISTRY_UNAVAILABLE", `the connection to ${url.host} failed: ${found}`, {
        cause: error,
      }),
    );
  }
}

/** What to do about a failure that a further attempt would meet again; undefined for those of the network. */
function adviceFor(code: string, detail: string, url: URL): string | undefined {
  if (/wrong.version.number|packet.length.too.long/i.test(`${code} ${detail}`)) {
    return `if it speaks plain http, allow that with --insecure-registry ${url.host}`;
  }
  // A name server that cannot answer just now says EAI_AGAIN; this one says that there is no such name.
  if (code === "ENOTFOUND") return "there is no such host; is the image's name right?";
  if (/^(ERR_TLS_|CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET)_)/.test(code)) {
    return "its certificate is not trusted; name the certificate authority in NODE_EXTRA_CA_CERTS";
  }
  return undefined;
}

/** Where connections come from: for loopback, and for everything else, which may lie behind a proxy. */
interface ConnectionPools {
  readonly direct: Dispatcher;
  readonly outside: Dispatcher;
}

/** undici is loaded with the first request: it takes longer to load than all the rest, and a warm start never needs it. */
async function openPools(attemptTimeoutMs: number, ahead: SocketsAhead): Promise<ConnectionPools> {
  const undici = await import("undici");
  await mendPausedParser(undici);
  const agentOptions = {
    connections: connectionsPerOrigin,
    pipelining: 1,
    allowH2: false,
    connect: { timeout: attemptTimeoutMs },
    headersTimeout: attemptTimeoutMs,
    bodyTimeout: attemptTimeoutMs,
    keepAliveTimeout: keepAliveMs,
  };
  const connect = ahead.before(undici.buildConnector(agentOptions.connect));
  const direct = new undici.Agent({ ...agentOptions, connect });
  if (!proxyIsConfigured(process.env)) return { direct, outside: direct };
  const outside = new undici.EnvHttpProxyAgent({
    ...agentOptions,
    proxyTls: { timeout: attemptTimeoutMs },
    requestTls: { timeout: attemptTimeoutMs },
    clientFactory: (origin, poolOptions) =>
      new undici.Pool(origin, { ...poolOptions, headersTimeout: attemptTimeoutMs }),
  });
  return { direct, outside };
}

function proxyIsConfigured(environment: NodeJS.ProcessEnv): boolean {
  const { https_proxy, HTTPS_PROXY, http_proxy, HTTP_PROXY } = environment;
  return Boolean(https_proxy || HTTPS_PROXY || http_proxy || HTTP_PROXY);
}
