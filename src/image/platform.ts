import { arch } from "node:process";
import { SkimError } from "../base/errors.js";

/** What a manifest of an image index is for (OCI image index, `platform`). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

const goArchitecture: Record<string, string> = {
  x64: "amd64",
  arm64: "arm64",
  arm: "arm",
  ppc64: "ppc64le",
  s390x: "s390x",
  riscv64: "riscv64",
};
/** Names that people and build tools use for an architecture, and what the OCI spec (Go) calls it. */
const aliases = new Map<string, readonly [architecture: string, variant?: string]>(
  Object.entries({
    x86_64: ["amd64"],
    "x86-64": ["amd64"],
    aarch64: ["arm64"],
    armhf: ["arm", "v7"],
    armel: ["arm", "v6"],
    i386: ["386"],
  }),
);

export function hostPlatform(): Platform {
  return { os: "linux", architecture: goArchitecture[arch] ?? arch };
}

/** Reads `os/arch[/variant]`, with the names that people use for architectures. Throws USAGE. */
export function parsePlatform(text: string): Platform {
  const parts = text.split("/");
  if (parts.length < 2 || parts.length > 3 || parts.some((part) => !/^[a-zA-Z0-9._-]+$/.test(part))) {
    throw new SkimError(
      "USAGE",
      `platform ${JSON.stringify(text)} is not of the form os/arch[/variant], e.g. linux/arm64`,
    );
  }
  const [os, name, variant] = parts as [string, string, string | undefined];
  return normalizePlatform({ os, architecture: name, ...(variant ? { variant } : {}) });
}

/** Lower case, docker's aliases resolved, and the variants that say nothing (arm64/v8, amd64/v1) dropped. */
export function normalizePlatform(platform: Platform): Platform {
  const name = platform.architecture.toLowerCase();
  const [architecture, aliasVariant] = aliases.get(name) ?? [name];
  let variant = (platform.variant ?? aliasVariant)?.toLowerCase();
  if (/^\d+$/.test(variant ?? "")) variant = `v${variant}`;
  if ((architecture === "arm64" && variant === "v8") || (architecture === "amd64" && variant === "v1"))
    variant = undefined;
  if (architecture === "arm" && variant === undefined) variant = "v7";
  return { os: platform.os.toLowerCase(), architecture, ...(variant ? { variant } : {}) };
}

export function platformText(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter(Boolean).join("/");
}

/** True where an image for `offered` is exactly what `wanted` names. */
export function platformEquals(wanted: Platform, offered: Platform): boolean {
  return platformText(normalizePlatform(wanted)) === platformText(normalizePlatform(offered));
}
