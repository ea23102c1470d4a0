import { SkimError } from "../base/errors.js";
import { isLoopback } from "./endpoint.js";
import { TransientFailure } from "./retry.js";
import type { HttpResponse, Transport } from "./transport.js";

/**
 * Follows redirects by hand, because two things are at stake in each step: secrets go to one origin (scheme, host and port) and
 * no other, and an https:// answer must not lead to http://.
 */

/** Registries need one (to storage), some mirrors two. */
const redirectsMax = 5;

export interface FollowOptions {
  readonly transport: Transport;
  readonly signal: AbortSignal;
  /** Sent to `secretOrigin` only. */
  readonly authorization: string | undefined;
  readonly secretOrigin: string;
}

/**
 * GETs `url`; the `url` of the answer is the one that gave it, which is no redirect. Throws as Transport.send does, and
 * TransientFailure (REGISTRY_PROTOCOL) for redirects that lead nowhere or must not be followed.
 */
export async function getFollowing(
  url: URL,
  headers: Readonly<Record<string, string>>,
  options: FollowOptions,
): Promise<HttpResponse> {
  const { transport, signal, authorization, secretOrigin } = options;
  let at = url;
  for (let redirects = 0; ; redirects++) {
    const secret = authorization !== undefined && at.origin === secretOrigin ? { authorization } : {};
    const response = await transport.send({ url: at, headers: { ...headers, ...secret } }, signal);
    if (![301, 302, 303, 307, 308].includes(response.status)) return response;
    if (redirects === redirectsMax) throw refused(at, `redirects more than ${redirectsMax} times`);
    at = nextUrl(at, response.headers.location);
  }
}

function nextUrl(from: URL, location: string | undefined): URL {
  if (!location || !URL.canParse(location, from.href))
    throw refused(from, "redirects without a usable Location");
  const to = new URL(location, from);
  if (to.protocol !== "https:" && to.protocol !== "http:") {
    throw refused(from, `redirects to ${to.protocol}, which is not followed`);
  }
  if (from.protocol === "https:" && to.protocol === "http:" && !isLoopback(to.hostname)) {
    throw refused(from, `redirects from https to plain http (${to.host}), which is not followed`);
  }
  // User info in a URL would be credentials of somebody else's choosing.
  to.username = "";
  to.password = "";
  return to;
}

function refused(from: URL, found: string): TransientFailure {
  return new TransientFailure(new SkimError("REGISTRY_PROTOCOL", `${from.origin}${from.pathname} ${found}`));
}
