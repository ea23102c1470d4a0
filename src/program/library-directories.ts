/**
 * Directories that a loader searches for libraries: those that glibc's has built in, and those that configuration names: /etc/ld.so.conf with what it
 * includes (ldconfig(8)), and musl's /etc/ld-musl-ARCH.path.
 *
 * glibc's loader never reads ld.so.conf: ldconfig makes the cache of it. So what is found only there would be found once ldconfig has run.
 */
import { type ByteString, byteStringOf } from "../base/byte-string.js";
import { directoryOf, type ImageFile, joined, type ProgramImage } from "./program-image.js";

const configurationPath = "/etc/ld.so.conf" as ByteString;
const configurationBytesMax = 64 * 1024;
/** Files, and directories of them all. Debian has three and four. */
const configurationFilesMax = 64;
const directoriesMax = 256;

/** glibc's loaders have some 220 KB. */
const loaderBytesMax = 1024 * 1024;
/** Names that end in slash and NUL, one behind the other. Bounded everywhere: the file may be anything. */
const directoryNames = /(?:\/(?:[\w.+~-]{1,255}\/){1,16}\0){1,16}/g;

/**
 * `system_dirs` of glibc's elf/dl-load.c, which differ between distributions, as they stand in the loader:
 * `/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0`. Undefined where they are not found there, or it may not be read.
 */
export async function builtInDirectories(
  image: ProgramImage,
  loader: ImageFile,
): Promise<ByteString[] | undefined> {
  const bytes = await image.readSmall(loader, loaderBytesMax);
  if (!bytes) return undefined;
  const lists = [...byteStringOf(bytes).matchAll(directoryNames)]
    .map(([names]) => names.split("\0").filter(Boolean))
    .filter((names) => names.every((name) => /\/lib(32|64|x32)?\//.test(name)));
  const [longest] = lists.sort((a, b) => b.length - a.length);
  return longest?.slice(0, directoriesMax).map((name) => name.replace(/\/$/, "") as ByteString);
}

/** Directories of ld.so.conf in its order. */
export async function configuredDirectories(image: ProgramImage): Promise<ByteString[]> {
  const directories = new Set<ByteString>();
  const seen = new Set<ByteString>();
  const pending: ByteString[] = [configurationPath];
  for (let path = pending.shift(); path !== undefined; path = pending.shift()) {
    const { file } = image.find(path);
    if (!file || seen.has(file.path) || seen.size >= configurationFilesMax) continue;
    seen.add(file.path);
    const text = await image.readSmall(file, configurationBytesMax);
    const included: ByteString[] = [];
    for (const line of linesOf(text)) {
      const include = /^include\s+(.*)$/.exec(line);
      if (!include) directories.add(line.replace(/[\s=].*$/, "") as ByteString);
      else
        for (const pattern of include[1]!.split(/\s+/))
          included.push(...matchingPaths(image, joined(directoryOf(path), pattern as ByteString)));
    }
    // What a file includes stands where the line is; directories behind the line come later, which ldconfig does not keep either.
    pending.unshift(...included);
  }
  return [...directories].filter((directory) => directory.startsWith("/")).slice(0, directoriesMax);
}

/** musl: directories separated by newlines or colons; undefined where the file is not there. */
export async function muslDirectories(
  image: ProgramImage,
  path: ByteString,
): Promise<ByteString[] | undefined> {
  const { file } = image.find(path);
  const text = file && (await image.readSmall(file, configurationBytesMax));
  return text && (byteStringOf(text).split(/[\n:]/).filter(Boolean).slice(0, directoriesMax) as ByteString[]);
}

function linesOf(text: Buffer | undefined): string[] {
  return (text ? byteStringOf(text) : "")
    .split("\n")
    .map((line) => line.replace(/#.*$/, "").trim())
    .filter((line) => line !== "" && !line.startsWith("hwcap "));
}

/** glob(3), sorted: `*`, `?` and `[...]` in names; a leading dot is matched only by a dot. */
export function matchingPaths(image: ProgramImage, pattern: ByteString): ByteString[] {
  let paths = [""];
  for (const name of pattern.split("/").filter(Boolean)) {
    if (!/[*?[]/.test(name)) paths = paths.map((path) => `${path}/${name}`);
    else {
      const matches = patternOf(name);
      paths = paths.flatMap((path) =>
        image
          .names((path || "/") as ByteString)
          .filter((found) => matches(found))
          .map((found) => `${path}/${found}`),
      );
    }
    paths = paths.slice(0, configurationFilesMax);
  }
  return paths as ByteString[];
}

/** Without backtracking over more than one star at a time: patterns come from the image. */
function patternOf(pattern: string): (name: string) => boolean {
  const parts = pattern.match(/\[[!^]?\]?[^\]]*\]|[\s\S]/g) ?? [];
  const fits = (part: string, char: string) => {
    if (part === "?") return true;
    if (part.length === 1) return part === char;
    const negated = part[1] === "!" || part[1] === "^";
    const set = part.slice(negated ? 2 : 1, -1);
    return inSet(set, char) !== negated;
  };
  return (name) => {
    if (name.startsWith(".") && parts[0] !== ".") return false;
    let [at, partAt, starAt, resumeAt] = [0, 0, -1, 0];
    while (at < name.length) {
      const part = parts[partAt];
      if (part === "*") {
        starAt = partAt++;
        resumeAt = at;
      } else if (part !== undefined && fits(part, name[at]!)) {
        at++;
        partAt++;
      } else if (starAt >= 0) {
        partAt = starAt + 1;
        at = ++resumeAt;
      } else return false;
    }
    while (parts[partAt] === "*") partAt++;
    return partAt === parts.length;
  };
}

function inSet(set: string, char: string): boolean {
  for (let at = 0; at < set.length; at++) {
    const last = set[at + 1] === "-" && at + 2 < set.length ? set[at + 2]! : undefined;
    if (last === undefined ? set[at] === char : set[at]! <= char && char <= last) return true;
    if (last !== undefined) at += 2;
  }
  return false;
}
