import { z } from "zod";
import { SkimError } from "./errors.js";

/**
 * Mirrors as a user writes them: an ordered list of URLs for each registry.
 *
 *     --mirror docker.io=https://mirror.gcr.io,https://harbor.example.com/dockerhub    (repeatable; SKIM_MIRRORS the same, separated by spaces)
 *     { "mirrors": { "docker.io": ["https://mirror.gcr.io", "https://harbor.example.com/dockerhub"] } }
 *
 * A path goes before the repository's name, as the project of a proxy cache does. A mirror without a scheme is a host as in an image's name.
 */

/** Names of Docker Hub that mean docker.io (see image/reference.ts). */
const dockerHubAliases = ["index.docker.io", "registry-1.docker.io"];

const mirrorUrl = z.string().check((context) => {
  const fault = faultOfMirror(context.value);
  if (fault) context.issues.push({ code: "custom", input: context.value, message: fault });
});

/** By registry as in a reference, in lower case. */
export const mirrorsSchema = z.preprocess(
  (value, context) => {
    const texts = typeof value === "string" ? value.split(/[\s;]+/).filter(Boolean) : value;
    if (!Array.isArray(texts)) return mergeAliases(texts);
    const mirrors = new Map<string, string[]>();
    for (const text of texts as unknown[]) {
      const [, registry, urls] = /^([^=\s]+)=(\S+)$/.exec(String(text)) ?? [];
      if (!registry || !urls) {
        context.issues.push({
          code: "custom",
          input: value,
          message: `${JSON.stringify(redactUserInfo(String(text)))} is not of the form REGISTRY=URL[,URL]`,
        });
        return z.NEVER;
      }
      const name = canonicalRegistry(registry);
      mirrors.set(name, [...(mirrors.get(name) ?? []), ...urls.split(",").filter(Boolean)]);
    }
    return Object.fromEntries(mirrors);
  },
  z.record(z.string(), z.array(mirrorUrl)),
);

/** The mirrors of a command line, each `REGISTRY=URL[,URL]`. Throws USAGE. */
export function parseMirrors(texts: readonly string[]): Record<string, string[]> {
  const parsed = mirrorsSchema.safeParse(texts);
  if (parsed.success) return parsed.data;
  throw new SkimError("USAGE", `--mirror cannot be used: ${parsed.error.issues[0]?.message}`);
}

/** As references have it: lower case, and one name for Docker Hub. */
function canonicalRegistry(registry: string): string {
  const host = registry.toLowerCase();
  return dockerHubAliases.includes(host) ? "docker.io" : host;
}

function mergeAliases(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const merged: Record<string, unknown> = {};
  for (const [registry, urls] of Object.entries(value)) {
    const name = canonicalRegistry(registry);
    const before = merged[name];
    merged[name] = Array.isArray(before) && Array.isArray(urls) ? [...before, ...urls] : urls;
  }
  return merged;
}

/** What is wrong with a mirror, undefined where nothing is. */
function faultOfMirror(text: string): string | undefined {
  const full = text.includes("://") ? text : `https://${text}`;
  if (!URL.canParse(full)) return `${JSON.stringify(redactUserInfo(text))} is not a URL`;
  const { protocol, username, password, search, hash, pathname } = new URL(full);
  const shown = JSON.stringify(redactUserInfo(text));
  if (protocol !== "https:" && protocol !== "http:") return `${shown} is not an http:// or https:// URL`;
  if (username || password) return `${shown} holds credentials; they belong into docker's config.json`;
  if (search || hash) return `${shown} has more than a host and a path`;
  if (/^\/v2(\/|$)/.test(pathname)) return `${shown}: leave out /v2, which is added`;
  return undefined;
}

function redactUserInfo(text: string): string {
  return text.replace(/[^/=,\s]*@/g, "[redacted]@").replace(/\?.*$/s, "?[redacted]");
}
