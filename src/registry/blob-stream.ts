import type { ByteRange } from "../base/byte-range.js";
import { isSkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { CallScope } from "./call-scope.js";
import { parseContentRange } from "./content-range.js";
import type { BlobAttempt, BlobId } from "./image-source.js";
import type { MirrorPatience } from "./mirror-patience.js";
import { protocolFailure, refuseEncoding } from "./refusals.js";
import type { RegistryClient } from "./registry-client.js";
import type { Mirror, RegistryRoutes } from "./registry-routes.js";
import { Attempts, type RetryPolicy } from "./retry.js";
import type { HttpResponse, Transport } from "./transport.js";

/**
 * Bytes of a blob as a stream that survives broken connections: where a body breaks off, a new range request goes on at the next byte.
 *
 * Every answer is held against what was asked before its first byte is passed on: a 206 by its Content-Range, a 200 by its length.
 * A 200 to a range request is read from the start and skipped through where that is not far. What is passed on is in order and
 * exactly the range; whether the bytes are right, only their digest can say.
 */

/** What is read and thrown away to use a 200 where a range was asked for; more would make slow what looks as if it worked. */
const skippedBytesMax = 8 * 1024 * 1024;
/** An attempt that brought less than this counts as failed without progress: one byte a connection must not go on for ever. */
const progressBytesMin = 64 * 1024;

export interface BlobStreamOptions {
  readonly routes: RegistryRoutes;
  readonly transport: Transport;
  readonly policy: RetryPolicy;
  readonly logger: Logger;
  readonly scope: CallScope;
  /** Names the blob in errors. */
  readonly what: string;
  /** See ReadBlobOptions. */
  readonly onAttempt?: ((attempt: BlobAttempt) => void) | undefined;
}

/** Below /v2/REPOSITORY/. */
export function blobPath(blob: BlobId): string {
  return `blobs/${blob.digest}`;
}

export async function* streamBlob(
  blob: BlobId,
  range: ByteRange,
  options: BlobStreamOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { scope, routes, what } = options;
  const attempts = new Attempts(options.policy, scope, options.logger);
  const path = blobPath(blob);
  const failedMirrors = new Set<Mirror>();
  let at = range.start;
  let isRetry = false;
  while (at < range.end) {
    scope.check();
    const attemptStart = at;
    const route = routes.choose(path, failedMirrors);
    const patience = routes.patience(route, scope.signal);
    const sent = routes.note(route, path, at);
    options.onAttempt?.({ host: route.client.registry, isRetry });
    let failure: unknown;
    try {
      const attempt = { client: route.client, patience, signal: patience?.signal ?? scope.signal };
      for await (const piece of readFrom(blob, { start: at, end: range.end }, attempt, options)) {
        at += piece.length;
        sent.end = at;
        yield piece;
      }
      if (at < range.end && at - attemptStart < progressBytesMin) {
        throw protocolFailure(`${what}: only ${at - attemptStart} bytes were sent`);
      }
    } catch (error) {
      failure = error;
    } finally {
      patience?.end();
      if (failure === undefined) routes.leave(route, at > attemptStart);
    }
    isRetry = failure !== undefined;
    if (failure !== undefined && routes.blame(route, path, failure, scope)) {
      failedMirrors.add(route.mirror!);
      continue;
    }
    if (at - attemptStart >= progressBytesMin) attempts.progressed();
    if (failure !== undefined) {
      // Storage that failed or was too slow is not asked again without the registry's word; a caller who has left proves nothing.
      if (!isSkimError(failure, "CANCELLED")) route.client.forgetRedirect(path);
      await attempts.afterFailure(routes.explained(failure, path));
      failedMirrors.clear();
    }
  }
}

/** One attempt: bytes from `range.start` on, as many of the range as the answer holds. */
async function* readFrom(
  blob: BlobId,
  range: ByteRange,
  attempt: { client: RegistryClient; patience: MirrorPatience | undefined; signal: AbortSignal },
  options: BlobStreamOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const { transport, what } = options;
  const { client, patience, signal } = attempt;
  const whole = range.start === 0 && range.end === blob.size;
  const headers: Record<string, string> = whole ? {} : { range: `bytes=${range.start}-${range.end - 1}` };
  const response = await client.get(blobPath(blob), headers, { what, signal, remember: true });
  let sent: ByteRange;
  try {
    sent = sentRange(response, blob, range, what);
  } catch (failure) {
    void transport.discard(response);
    throw failure;
  }
  let skip = range.start - sent.start;
  const wanted = Math.min(sent.end, range.end) - sent.start;
  let received = 0;
  for await (const piece of transport.pieces(response, signal, wanted)) {
    received += piece.length;
    patience?.brought(piece.length);
    if (skip >= piece.length) skip -= piece.length;
    else {
      yield skip > 0 ? piece.subarray(skip) : piece;
      skip = 0;
    }
    patience?.wait();
  }
  if (received < wanted) throw protocolFailure(`${what}: the body ends ${wanted - received} bytes early`);
}

/** The range of the blob that the body of a 2xx answer is, or TransientFailure (REGISTRY_PROTOCOL) where it cannot be used. */
function sentRange(response: HttpResponse, blob: BlobId, asked: ByteRange, what: string): ByteRange {
  const { status, headers } = response;
  refuseEncoding(response, what);
  const length = headers["content-length"] === undefined ? undefined : Number(headers["content-length"]);
  if (status === 200) {
    if (length !== undefined && length !== blob.size) {
      throw protocolFailure(`${what}: ${length} bytes were sent, the manifest says ${blob.size}`);
    }
    if (asked.start > skippedBytesMax) {
      throw protocolFailure(
        `${what}: the whole blob was sent for a range at ${asked.start}; ${response.url.host} does not seem to support ranges`,
      );
    }
    return { start: 0, end: blob.size };
  }
  if (status !== 206) throw protocolFailure(`${what}: status ${status} where 200 or 206 belongs`);
  const text = headers["content-range"];
  const sent = parseContentRange(text);
  if (!sent) {
    const found = text === undefined ? "no Content-Range" : `Content-Range ${JSON.stringify(text)}`;
    throw protocolFailure(`${what}: a 206 with ${found}, which does not say what was sent`);
  }
  if (sent.total !== undefined && sent.total !== blob.size) {
    throw protocolFailure(
      `${what}: ${sent.total} bytes long at the registry, the manifest says ${blob.size}`,
    );
  }
  // A shorter range than asked for is allowed (RFC 9110 15.3.7); the rest is asked for afterwards.
  if (sent.start !== asked.start || sent.end > asked.end) {
    throw protocolFailure(`${what}: bytes ${asked.start}-${asked.end - 1} were asked for, ${text} was sent`);
  }
  if (length !== undefined && length !== sent.end - sent.start) {
    throw protocolFailure(
      `${what}: Content-Length ${length} and Content-Range ${text} contradict each other`,
    );
  }
  return sent;
}
