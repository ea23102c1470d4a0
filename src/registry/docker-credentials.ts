import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { askCredentialHelper } from "./credential-helper.js";
import type { CredentialLookup, Credentials, FoundCredentials } from "./credentials.js";

/**
 * Finds the credentials for a registry where docker, podman and skopeo keep them.
 *
 * Files, in this order; the first that knows the registry wins: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json (default
 * ~/.docker/config.json), $XDG_RUNTIME_DIR/containers/auth.json. In each file: the helper that `credHelpers` names for the host, then
 * `credsStore`, then `auths`. Keys of `auths` may be a host, a host with the start of a repository (the longest that fits wins), or
 * a URL as docker wrote them once. Nothing is remembered: lookups are rare (once per token), and rotated credentials must be seen.
 * Sources: docker/cli cli/config, containers-auth.json(5).
 */

/** docker login stores Docker Hub under this key, and helpers know it by this name. */
const dockerHubKey = "https://index.docker.io/v1/";
const dockerHubHosts = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/** Looks in the files of docker and podman that `environment` points to. */
export function dockerCredentials(environment: NodeJS.ProcessEnv = process.env): CredentialLookup {
  return async (registry, repository, signal) => {
    let failure: unknown;
    for (const file of credentialFiles(environment)) {
      try {
        const config = await readConfig(file);
        const host = registry.toLowerCase();
        const found = config && (await findIn(config, file, host, repository, environment, signal));
        if (found) return found;
      } catch (error) {
        if (signal?.aborted) throw error;
        // A broken file or helper is told only where no other place has the credentials.
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return undefined;
  };
}

/** Where credentials are looked for, by an environment. */
export function credentialFiles(environment: NodeJS.ProcessEnv): string[] {
  const { REGISTRY_AUTH_FILE, DOCKER_CONFIG, XDG_RUNTIME_DIR, HOME } = environment;
  return [
    ...(REGISTRY_AUTH_FILE ? [REGISTRY_AUTH_FILE] : []),
    path.join(DOCKER_CONFIG || path.join(HOME || homedir(), ".docker"), "config.json"),
    ...(XDG_RUNTIME_DIR ? [path.join(XDG_RUNTIME_DIR, "containers/auth.json")] : []),
  ];
}

interface ConfigFile {
  readonly auths: Record<string, unknown>;
  readonly credHelpers: Record<string, unknown>;
  readonly credsStore: string | undefined;
}

async function readConfig(file: string): Promise<ConfigFile | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new SkimError("AUTH_FAILED", `credentials file ${file} cannot be read: ${code}`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // Without the cause: a parser's message repeats the text, and the text holds secrets.
    throw new SkimError("AUTH_FAILED", `credentials file ${file} is not JSON`);
  }
  const config = asObject(json);
  const store = config.credsStore;
  return {
    auths: asObject(config.auths),
    credHelpers: asObject(config.credHelpers),
    credsStore: typeof store === "string" && store !== "" ? store : undefined,
  };
}

async function findIn(
  config: ConfigFile,
  file: string,
  registry: string,
  repository: string,
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<FoundCredentials | undefined> {
  const isHub = dockerHubHosts.includes(registry);
  const names = isHub ? [...dockerHubHosts, dockerHubKey] : [registry];
  const helper = names.map((name) => config.credHelpers[name]).find((value) => typeof value === "string");
  const program = typeof helper === "string" && helper !== "" ? helper : config.credsStore;
  let failure: unknown;
  if (program !== undefined) {
    try {
      const host = isHub ? dockerHubKey : registry;
      const credentials = await askCredentialHelper(program, host, environment, signal);
      if (credentials) return { credentials, origin: `docker-credential-${program}` };
    } catch (error) {
      if (signal?.aborted) throw error;
      failure = error;
    }
  }
  for (const key of matchingKeys(Object.keys(config.auths), names, repository)) {
    const credentials = readAuth(
      config.auths[key],
      `credentials file ${file}: auths[${JSON.stringify(key)}]`,
    );
    if (credentials) return { credentials, origin: file };
  }
  if (failure !== undefined) throw failure;
  return undefined;
}

/** The keys of `auths` that are for this repository, the most specific first. */
function matchingKeys(keys: readonly string[], hosts: readonly string[], repository: string): string[] {
  const specificity = (key: string): number => {
    const rest = key.replace(/^https?:\/\//i, "");
    const slash = rest.indexOf("/");
    const host = (slash < 0 ? rest : rest.slice(0, slash)).toLowerCase();
    if (!hosts.includes(host)) return -1;
    const namespace = slash < 0 ? "" : rest.slice(slash + 1).replace(/\/+$/, "");
    // docker's URLs end in the version of the API, which is no repository; an exact host goes before them.
    if (rest !== key || /^v[12]$/.test(namespace)) return 0;
    if (namespace === "") return 1;
    return repository === namespace || repository.startsWith(`${namespace}/`) ? 1 + namespace.length : -1;
  };
  return keys
    .map((key) => ({ key, specificity: specificity(key) }))
    .filter((entry) => entry.specificity >= 0)
    .sort((a, b) => b.specificity - a.specificity)
    .map((entry) => entry.key);
}

/** Undefined for an empty entry: docker leaves one for each registry whose secret is with a helper. */
function readAuth(value: unknown, where: string): Credentials | undefined {
  const entry = asObject(value);
  const text = (name: string): string => (typeof entry[name] === "string" ? entry[name] : "");
  if (text("identitytoken")) return { kind: "identityToken", token: text("identitytoken") };
  if (text("registrytoken")) return { kind: "registryToken", token: text("registrytoken") };
  if (text("auth")) {
    const pair = Buffer.from(text("auth"), "base64").toString("utf8").replace(/\0+$/, "");
    const colon = pair.indexOf(":");
    if (colon < 1) throw new SkimError("AUTH_FAILED", `${where}: auth is not base64 of user:password`);
    return { kind: "password", username: pair.slice(0, colon), password: pair.slice(colon + 1) };
  }
  if (text("username")) {
    return { kind: "password", username: text("username"), password: text("password") };
  }
  return undefined;
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}
