import path from "node:path";
import { SkimError } from "../base/errors.js";
import { type Digest, isDigest } from "./digest.js";

/**
 * The name of an image: `[docker://]registry/repo[:tag][@digest]`, or `oci:DIR[:tag]` for an OCI layout directory.
 * Grammar: github.com/distribution/reference; names without a registry are completed as docker does.
 */
export type Reference = RegistryReference | LayoutReference;

export interface RegistryReference {
  readonly kind: "registry";
  /** Host with optional port, e.g. `registry-1.docker.io`, `127.0.0.1:5000`, `[::1]:5000`. */
  readonly registry: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

export interface LayoutReference {
  readonly kind: "layout";
  /** Absolute path. */
  readonly directory: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const hostPattern =
  /^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?))*|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?$/;

/** Reads the name of an image. Throws USAGE that says what is wrong with it. */
export function parseReference(text: string): Reference {
  const layout = /^oci:(?!\/\/)(.*)$/s.exec(text);
  if (layout) return parseLayout(layout[1]!, text);
  let rest = text.replace(/^docker:\/\//, "");
  if (/^[a-z]+:\/\//.test(rest))
    throw refuse(text, "an image is named registry/repo[:tag][@digest], without http:// or https://");
  let digest: Digest | undefined;
  const at = rest.indexOf("@");
  if (at >= 0) {
    const found = rest.slice(at + 1);
    if (!isDigest(found)) throw refuse(text, `${JSON.stringify(found)} is not a sha256 or sha512 digest`);
    digest = found;
    rest = rest.slice(0, at);
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(":");
  if (colon > rest.lastIndexOf("/")) {
    tag = rest.slice(colon + 1);
    if (!tagPattern.test(tag)) throw refuse(text, `${JSON.stringify(tag)} is not a tag`);
    rest = rest.slice(0, colon);
  }
  const slash = rest.indexOf("/");
  const first = slash < 0 ? "" : rest.slice(0, slash);
  const namesRegistry =
    first !== "" && (/[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase());
  let registry = namesRegistry ? first : "docker.io";
  let repository = namesRegistry ? rest.slice(slash + 1) : rest;
  if (registry === "index.docker.io") registry = "docker.io";
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  if (!hostPattern.test(registry)) throw refuse(text, `${JSON.stringify(registry)} is not a host`);
  const components = repository.split("/");
  if (repository.length > 255 || !components.every((part) => componentPattern.test(part))) {
    throw refuse(
      text,
      `${JSON.stringify(repository)} is not a repository: lower-case letters, digits, and . _ - between them`,
    );
  }
  if (tag === undefined && digest === undefined) tag = "latest";
  return { kind: "registry", registry, repository, ...(tag ? { tag } : {}), ...(digest ? { digest } : {}) };
}

function parseLayout(rest: string, text: string): LayoutReference {
  let digest: Digest | undefined;
  const at = rest.lastIndexOf("@");
  if (at >= 0 && isDigest(rest.slice(at + 1))) {
    digest = rest.slice(at + 1) as Digest;
    rest = rest.slice(0, at);
  }
  const colon = rest.lastIndexOf(":");
  let tag: string | undefined;
  if (colon > 0 && !rest.slice(colon).includes("/")) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!tag) throw refuse(text, "the tag behind the colon is empty");
  }
  if (!rest) throw refuse(text, "oci: takes a directory, e.g. oci:/srv/images/app:v1");
  return {
    kind: "layout",
    directory: path.resolve(rest),
    ...(tag ? { tag } : {}),
    ...(digest ? { digest } : {}),
  };
}

function refuse(text: string, why: string): SkimError {
  return new SkimError("USAGE", `image name ${JSON.stringify(text)} cannot be used: ${why}`);
}

/** The canonical, complete form; `parseReference(referenceText(x))` gives x. */
export function referenceText(reference: Reference): string {
  const suffix = `${reference.tag ? `:${reference.tag}` : ""}${reference.digest ? `@${reference.digest}` : ""}`;
  return reference.kind === "layout"
    ? `oci:${reference.directory}${suffix}`
    : `${reference.registry}/${reference.repository}${suffix}`;
}

/** The same repository or directory, pinned to `digest` (the tag is kept: it is what people know the image by). */
export function withDigest<R extends Reference>(reference: R, digest: Digest): R {
  return { ...reference, digest };
}
