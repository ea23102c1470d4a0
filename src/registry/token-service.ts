import { SkimError } from "../base/errors.js";
import type { FoundCredentials } from "./credentials.js";
import { isTrustedTransport } from "./endpoint.js";
import { getFollowing } from "./redirects.js";
import { unavailable } from "./refusals.js";
import { TransientFailure } from "./retry.js";
import { quoteServer } from "./server-text.js";
import type { HttpResponse, Transport } from "./transport.js";

/**
 * Gets a bearer token from the token service that a challenge names: GET with Basic credentials or none, or, with an identity token, an
 * OAuth2 POST. Source: distribution spec's token and oauth2 documents.
 */
export interface TokenService {
  readonly realm: string;
  readonly service: string | undefined;
  readonly scope: string;
}

export interface Token {
  readonly value: string;
  readonly lifetimeMs: number;
}

/** The largest tokens known (with many groups in their claims) have 16 KiB. */
const tokenResponseBytesMax = 1024 * 1024;
/** What a token lives when its service does not say, by the specification. */
const lifetimeSecondsDefault = 60;

/**
 * One attempt. Throws AUTH_FAILED for credentials that are refused and for a service that must not be told them, and
 * TransientFailure for what another attempt may mend.
 */
export async function requestToken(
  service: TokenService,
  found: FoundCredentials | undefined,
  options: {
    registry: string;
    insecureRegistries: readonly string[];
    transport: Transport;
    signal: AbortSignal;
  },
): Promise<Token> {
  const { registry, transport, signal } = options;
  const url = realmUrl(service, registry, options.insecureRegistries);
  const credentials = found?.credentials;
  let response: HttpResponse;
  let secret: string | undefined;
  if (credentials?.kind === "identityToken") {
    secret = `Bearer ${credentials.token}`;
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      client_id: "skim",
      scope: service.scope,
    });
    if (service.service) form.set("service", service.service);
    form.set("refresh_token", credentials.token);
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    response = await transport.send({ url, method: "POST", headers, body: form.toString() }, signal);
  } else {
    if (service.service) url.searchParams.set("service", service.service);
    url.searchParams.set("scope", service.scope);
    if (credentials?.kind === "password") {
      url.searchParams.set("account", credentials.username);
      const pair = Buffer.from(`${credentials.username}:${credentials.password}`, "utf8");
      secret = `Basic ${pair.toString("base64")}`;
    }
    response = await getFollowing(
      url,
      {},
      { transport, signal, authorization: secret, secretOrigin: url.origin },
    );
  }
  return readToken(response, `token service ${url.host} of ${registry}`, secret, transport, signal);
}

function realmUrl(service: TokenService, registry: string, insecureRegistries: readonly string[]): URL {
  if (!URL.canParse(service.realm)) {
    throw new SkimError("REGISTRY_PROTOCOL", `${registry} names a token service that is no URL`);
  }
  const url = new URL(service.realm);
  if (!isTrustedTransport(url, insecureRegistries)) {
    throw new SkimError(
      "AUTH_FAILED",
      `${registry} names the token service ${url.protocol}//${url.host}, which would get credentials in the clear; ` +
        `if you trust it, allow that with --insecure-registry ${url.host}`,
    );
  }
  url.username = "";
  url.password = "";
  return url;
}

async function readToken(
  response: HttpResponse,
  where: string,
  secret: string | undefined,
  transport: Transport,
  signal: AbortSignal,
): Promise<Token> {
  const { status } = response;
  if (status === 429 || status >= 500 || status === 408) throw unavailable(response, where, secret);
  if (status !== 200) {
    const found = `${where} answered ${status}${quoteServer(response.errorText, secret)}`;
    if (status >= 200 && status < 300) void transport.discard(response);
    const refused = status === 400 || status === 401 || status === 403;
    throw new SkimError(refused ? "AUTH_FAILED" : "REGISTRY_PROTOCOL", found);
  }
  const bytes = await transport.bytes(response, tokenResponseBytesMax, `the answer of ${where}`, signal);
  const { token, access_token, expires_in } = parseObject(bytes);
  const value = [token, access_token].find((each) => typeof each === "string" && each !== "");
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value)) {
    throw new TransientFailure(
      new SkimError("REGISTRY_PROTOCOL", `${where}: its answer is not JSON with a token`),
    );
  }
  const seconds = Number(expires_in);
  return { value, lifetimeMs: (seconds > 0 && seconds < 1e9 ? seconds : lifetimeSecondsDefault) * 1000 };
}

function parseObject(bytes: Buffer): { token?: unknown; access_token?: unknown; expires_in?: unknown } {
  try {
    const json: unknown = JSON.parse(bytes.toString("utf8"));
    return typeof json === "object" && json !== null ? json : {};
  } catch {
    return {};
  }
}
