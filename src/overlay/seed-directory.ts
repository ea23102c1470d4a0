import path from "node:path";
import { SkimError } from "../base/errors.js";

/** A directory that has to be there before the container starts: a mount target, a workspace, a volume. */
export interface SeedDirectory {
  /** Absolute path in the container. Symlinks in it are resolved inside the root. */
  readonly path: string;
  /** Permission bits and owner where the image has no such directory; one that it has keeps its own. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** What every container needs: targets of the runtime's mounts, and a place for temporary files. */
export const defaultSeeds: readonly SeedDirectory[] = [
  { path: "/proc" },
  { path: "/sys" },
  { path: "/dev" },
  { path: "/tmp" },
];

/** The mode that a missing directory at `path` gets when nobody named one (Filesystem Hierarchy Standard 3.0). */
export function canonicalMode(seedPath: string): number {
  if (seedPath === "/tmp" || seedPath === "/var/tmp") return 0o1777;
  if (seedPath === "/proc" || seedPath === "/sys") return 0o555;
  return 0o755;
}

/** Reads `PATH[:MODE]`, e.g. `/workspace:1777`. A path with a colon needs its mode behind it. Throws USAGE. */
export function parseSeedDirectory(text: string): SeedDirectory {
  const colon = text.lastIndexOf(":");
  const seedPath = colon < 0 ? text : text.slice(0, colon);
  if (!seedPath.startsWith("/") || seedPath.includes("\0")) {
    throw new SkimError(
      "USAGE",
      `directory ${JSON.stringify(text)} cannot be used: its path is not absolute`,
    );
  }
  if (colon < 0) return { path: path.posix.normalize(seedPath) };
  const mode = text.slice(colon + 1);
  if (!/^[0-7]{3,4}$/.test(mode)) {
    throw new SkimError(
      "USAGE",
      `directory ${JSON.stringify(text)} cannot be used: ${JSON.stringify(mode)} is not an octal mode; the form is PATH:MODE, e.g. /workspace:1777`,
    );
  }
  return { path: path.posix.normalize(seedPath), mode: Number.parseInt(mode, 8) };
}
