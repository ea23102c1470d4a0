/** Environment and working directory of a container's process: what holds for the first one as well as for those that come later. */
import path from "node:path";
import { SkimError } from "../base/errors.js";

/** Each name once: the last value, at the place of the first. What names no variable is left out. */
export function mergeEnvironment(entries: readonly string[]): string[] {
  const values = new Map<string, string>();
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    if (equals > 0) values.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return [...values].map(([name, value]) => `${name}=${value}`);
}

/**
 * `given` as an absolute path without `..`. `origin` says where it was given: a relative one is refused of an option, and taken from the root in an image,
 * as docker does. Throws USAGE or IMAGE_INVALID.
 */
export function workingDirectory(given: string, origin: "image" | "option"): string {
  const code = origin === "image" ? "IMAGE_INVALID" : "USAGE";
  if (origin === "option" && !given.startsWith("/")) {
    throw new SkimError(
      "USAGE",
      `working directory ${JSON.stringify(given)} is not an absolute path; give one`,
    );
  }
  const directory = normalPath(`/${given}`);
  refuseNul([directory], "the working directory");
  // There the file descriptors of the runtime lead to the host: CVE-2024-21626.
  if (isBelowProc(directory)) {
    throw new SkimError(
      code,
      `working directory ${JSON.stringify(given)} is in /proc, which could lead out of the container; choose another (--workdir)`,
    );
  }
  return directory;
}

export function isBelowProc(directory: string): boolean {
  const normal = normalPath(directory);
  return normal === "/proc" || normal.startsWith("/proc/");
}

/** Without `.`, `..`, `//` and a trailing `/`. */
export function normalPath(text: string): string {
  return path.posix.resolve("/", text);
}

/** execve(2) ends strings at NUL: what is behind it would be lost without a word. */
export function refuseNul<T extends readonly string[]>(strings: T, what: string): T {
  if (!strings.some((text) => text.includes("\0"))) return strings;
  throw new SkimError("IMAGE_INVALID", `${what} has a NUL character in it, which no process can be given`);
}
