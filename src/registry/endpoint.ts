import { isIPv4 } from "node:net";
import { SkimError } from "../base/errors.js";

/**
 * Which origin a registry's API is at, and where plain http:// may be spoken.
 *
 * A registry is https:// unless it is on loopback (nobody listens there who could not read memory) or named as insecure by the user. A
 * loopback or insecure registry that turns out to speak TLS answers a plain request with a recognisable 400, and is then spoken to over
 * https:// (see RegistryClient): http is tried first because that is what nearly all of them speak.
 */

/** Docker Hub is known by one name and answers under another. */
const dockerHubApiHost = "registry-1.docker.io";

/** The origin of the registry's API, e.g. `https://registry-1.docker.io`. `registry` is the host of a reference. */
export function registryOrigin(registry: string, insecureRegistries: readonly string[]): string {
  const host = registry === "docker.io" ? dockerHubApiHost : registry.toLowerCase();
  const https = new URL(`https://${host}`);
  const plain = isLoopback(https.hostname) || isListed(host, insecureRegistries);
  return plain ? new URL(`http://${host}`).origin : https.origin;
}

/** A repository as one host has it. */
export interface Endpoint {
  /** Of the API, e.g. `https://registry-1.docker.io`. */
  readonly origin: string;
  /** The host that credentials are kept for. */
  readonly registry: string;
  readonly repository: string;
  /**
   * Of a mirror, the registry that it stands for, sent as `?ns=`: one that serves several (Spegel, for example) cannot tell otherwise. The others do not look at
   * it; containerd sends it to every mirror.
   */
  readonly mirrorOf?: string;
}

/**
 * Where a mirror has `repository`. `mirror` is a URL whose path goes before the repository's name (the project of a proxy cache), or a host,
 * which is spoken to as a registry of that name would be. Throws USAGE for a mirror that would be spoken to in the clear without the user's word.
 */
export function mirrorEndpoint(
  mirror: string,
  { registry, repository }: Pick<Endpoint, "registry" | "repository">,
  insecureRegistries: readonly string[],
): Endpoint {
  const bare = !mirror.includes("://");
  const url = new URL(bare ? `https://${mirror}` : mirror);
  const origin = bare ? registryOrigin(url.host, insecureRegistries) : url.origin;
  if (!isTrustedTransport(new URL(origin), insecureRegistries)) {
    throw new SkimError(
      "USAGE",
      `mirror ${origin} would be asked in the clear; name it as https://, or allow that with --insecure-registry ${url.host}`,
    );
  }
  const prefix = url.pathname.replace(/^\/+|\/+$/g, "");
  return {
    origin,
    registry: url.host,
    repository: prefix ? `${prefix}/${repository}` : repository,
    mirrorOf: registry,
  };
}

/** 127.0.0.0/8, ::1 and localhost. `hostname` as in a URL: IPv6 addresses in brackets. */
export function isLoopback(hostname: string): boolean {
  if (hostname === "localhost" || hostname === "[::1]") return true;
  return isIPv4(hostname) && hostname.startsWith("127.");
}

/** True where `url` may be asked, secrets included: any https:// URL, and http:// on loopback or a listed host. */
export function isTrustedTransport(url: URL, insecureRegistries: readonly string[]): boolean {
  if (url.protocol === "https:") return true;
  const host = url.port ? url.host : `${url.hostname}:80`;
  return url.protocol === "http:" && (isLoopback(url.hostname) || isListed(host, insecureRegistries));
}

/** An entry without a port stands for every port of its host. */
function isListed(host: string, insecureRegistries: readonly string[]): boolean {
  const name = host.replace(/:\d+$/, "");
  return insecureRegistries.some((entry) => {
    const listed = entry
      .trim()
      .toLowerCase()
      .replace(/^https?:\/\//, "")
      .replace(/\/+$/, "");
    return listed === host || listed === name;
  });
}

/** Answers of TLS servers to a plain request: Go's net/http, nginx, Apache, Node behind some proxies. */
export function saysItSpeaksTls(status: number, text: string): boolean {
  return status === 400 && /https server|https port|SSL-enabled|speaking plain HTTP/i.test(text);
}
