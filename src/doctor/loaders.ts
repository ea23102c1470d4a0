/** Dynamic loaders by the names that programs have for them: whose C library they are of, and which of them an image has. */
import { type ByteString, displayText } from "../base/byte-string.js";
import { baseNameOf } from "../program/program-image.js";
import type { Subject } from "./subject.js";

export type LibcName = "glibc" | "musl" | "uclibc" | "bionic" | "unknown";

const names: ReadonlyArray<readonly [pattern: RegExp, libc: LibcName]> = [
  [/^ld-musl-/, "musl"],
  [/^ld(-linux.*|64)?\.so\.[0-9]$/, "glibc"],
  [/^ld(64)?-uClibc/, "uclibc"],
  [/^linker(64)?$/, "bionic"],
];

/** Whose loader `interpreter` (the path in a program) is. */
export function libcOf(interpreter: ByteString): LibcName {
  const name = baseNameOf(interpreter);
  return names.find(([pattern]) => pattern.test(name))?.[1] ?? "unknown";
}

const directories = ["/lib64", "/lib", "/lib32", "/libx32"] as ByteString[];

/** Loaders where programs of usual builds look for them, as paths that lead to a file. */
export function loadersOf(subject: Subject): ByteString[] {
  const found = new Map<string, ByteString>();
  for (const directory of directories) {
    for (const name of subject.programs.names(directory)) {
      if (libcOf(name) === "unknown") continue;
      const path = `${directory}/${name}` as ByteString;
      const { file } = subject.programs.find(path);
      if (file && !found.has(file.path)) found.set(file.path, path);
    }
  }
  return [...found.values()];
}

/** What to do where the loader `interpreter` is not there. */
export function interpreterAdvice(subject: Subject, interpreter: ByteString): string {
  const wanted = libcOf(interpreter);
  const present = loadersOf(subject);
  const [other] = present.filter((path) => libcOf(path) !== wanted);
  const same = present.find((path) => libcOf(path) === wanted);
  if (same)
    return `the image has ${displayText(same)}: link ${displayText(interpreter)} to it, or take a build for this system`;
  if (wanted === "glibc" && other && libcOf(other) === "musl")
    return `the image has musl (${displayText(other)}): take a build for musl or a static one, install gcompat (apk add gcompat), or choose an image with glibc`;
  if (wanted === "musl" && other && libcOf(other) === "glibc")
    return `the image has glibc (${displayText(other)}): take a build for glibc or a static one, or install musl`;
  if (wanted === "glibc" || wanted === "musl")
    return `take a static build, or an image with ${wanted} (${wanted === "glibc" ? "debian, ubuntu, ubi" : "alpine"})`;
  return `put ${displayText(interpreter)} into the image, or take a static build`;
}
