import { SkimError } from "../base/errors.js";
import { type DiffId, parseDigest } from "./digest.js";
import { parseJsonObject } from "./manifest.js";
import { normalizePlatform, type Platform } from "./platform.js";

/** What the OCI image config says of the process to start, and the diffIds of the layers. Absent fields are empty. */
export interface ImageConfig {
  readonly platform: Platform;
  /** One a layer, base layer first. */
  readonly diffIds: readonly DiffId[];
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly volumes: readonly string[];
  readonly exposedPorts: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string;
}

/** Parses an image config. `where` names it in errors. Throws IMAGE_INVALID. */
export function parseImageConfig(bytes: Uint8Array, where: string): ImageConfig {
  const json = parseJsonObject(bytes, where);
  const rootfs = (json.rootfs ?? {}) as Record<string, unknown>;
  const config = (json.config ?? {}) as Record<string, unknown>;
  if (typeof rootfs !== "object" || typeof config !== "object") {
    throw new SkimError("IMAGE_INVALID", `${where}: rootfs or config is not an object`);
  }
  const diffIds = rootfs.diff_ids ?? [];
  if (!Array.isArray(diffIds))
    throw new SkimError("IMAGE_INVALID", `${where}: rootfs.diff_ids is not a list`);
  return {
    platform: normalizePlatform({
      os: typeof json.os === "string" && json.os ? json.os : "linux",
      architecture:
        typeof json.architecture === "string" && json.architecture ? json.architecture : "unknown",
      ...(typeof json.variant === "string" && json.variant ? { variant: json.variant } : {}),
    }),
    diffIds: diffIds.map((digest, i) => parseDigest(digest, `${where}: rootfs.diff_ids[${i}]`)),
    user: typeof config.User === "string" ? config.User : "",
    env: strings(config.Env, `${where}: config.Env`),
    entrypoint: strings(config.Entrypoint, `${where}: config.Entrypoint`),
    cmd: strings(config.Cmd, `${where}: config.Cmd`),
    workingDir: typeof config.WorkingDir === "string" ? config.WorkingDir : "",
    volumes: Object.keys((config.Volumes as object | null) ?? {}).sort(),
    exposedPorts: Object.keys((config.ExposedPorts as object | null) ?? {}).sort(),
    labels: Object.fromEntries(
      Object.entries((config.Labels as object | null) ?? {}).map(([key, value]) => [
        key,
        typeof value === "string" ? value : (JSON.stringify(value) ?? ""),
      ]),
    ),
    stopSignal: typeof config.StopSignal === "string" ? config.StopSignal : "",
  };
}

function strings(value: unknown, where: string): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((item): item is string => typeof item === "string")) return value;
  throw new SkimError("IMAGE_INVALID", `${where} is not a list of strings`);
}
