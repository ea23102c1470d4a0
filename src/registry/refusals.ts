import { SkimError } from "../base/errors.js";
import { redact } from "../base/redact.js";
import { retryAfterMs, TransientFailure } from "./retry.js";
import { quoteServer } from "./server-text.js";
import type { HttpResponse } from "./transport.js";

/** What an answer that is no success means, for the caller and for the retry loop. */

/** 429, 408 and 5xx: another attempt may succeed, when the server says so or after a backoff. */
export function unavailable(
  response: HttpResponse,
  where: string,
  secret?: string,
  signedUrl?: URL,
): TransientFailure {
  const text = quoteServer(response.errorText, secret, signedUrl);
  return new TransientFailure(
    new SkimError("REGISTRY_UNAVAILABLE", `${where} answered ${response.status}${text}`),
    retryAfterMs(response.headers["retry-after"]),
  );
}

export interface RefusalContext {
  /** What was asked for, e.g. "manifest v1 of host/repo". */
  readonly what: string;
  /** True where the registry itself answered, false for the storage it redirected to. */
  readonly byRegistry: boolean;
  readonly authorization: string | undefined;
  /** What is known of the credentials, for AUTH_FAILED. */
  readonly findings: string;
}

/** The error for any status outside 2xx: a TransientFailure, or a SkimError that ends the attempts. */
export function refusal(response: HttpResponse, context: RefusalContext): Error {
  const { status } = response;
  const { what, byRegistry, authorization, findings } = context;
  const signedUrl = byRegistry ? undefined : response.url;
  const text = quoteServer(response.errorText, authorization, signedUrl);
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    return unavailable(response, `${what}: ${response.url.host}`, authorization, signedUrl);
  }
  if (status === 404 || status === 410) {
    return new SkimError("NOT_FOUND", `${what}: not found, ${response.url.host} answered ${status}${text}`);
  }
  if (!byRegistry) {
    // A signed URL that has just been issued and does not work: the next attempt gets a new one.
    return new TransientFailure(
      new SkimError(
        "REGISTRY_UNAVAILABLE",
        `${what}: storage at ${response.url.host} answered ${status}${text}`,
      ),
    );
  }
  if (status === 401 || status === 403) {
    // Docker Hub, among others, does not tell what is missing from what is forbidden.
    const advice = `; no such image, or it needs other credentials${findings ? ` (${findings})` : ""}`;
    return new SkimError("AUTH_FAILED", `${what}: ${response.url.host} answered ${status}${text}${advice}`);
  }
  const error = new SkimError("REGISTRY_PROTOCOL", `${what}: ${response.url.host} answered ${status}${text}`);
  return status === 416 || status < 400 ? new TransientFailure(error) : error;
}

/** An answer that breaks the protocol in a way that the next one may not. `sentence` may quote headers: secrets are cut out. */
export function protocolFailure(sentence: string): TransientFailure {
  return new TransientFailure(new SkimError("REGISTRY_PROTOCOL", redact(sentence)));
}

/** Throws for a body that is compressed although `Accept-Encoding: identity` was sent: its bytes are not those of the digest. */
export function refuseEncoding(response: HttpResponse, what: string): void {
  const encoding = response.headers["content-encoding"]?.trim().toLowerCase();
  if (!encoding || encoding === "identity") return;
  throw protocolFailure(
    `${what}: sent with Content-Encoding ${JSON.stringify(encoding)}, which was not asked for`,
  );
}
