/** The files that the fuzzers start from; see corpus/README.md. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { Compression, type CompressionName } from "../../src/native/binding.js";

export interface Corpus {
  readonly blobs: ReadonlyArray<{ readonly compression: CompressionName; readonly bytes: Buffer }>;
  readonly archives: readonly Buffer[];
}

export const corpusDir = path.resolve(import.meta.dirname, "corpus");

/** In the order of names: what a seed makes of them must not depend on a directory's order. */
export function filesIn(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => !name.startsWith("."))
    .sort()
    .map((name) => path.join(dir, name));
}

/** `dir`: a program that was bundled is not where this file is. */
export function readCorpus(dir: string): Corpus {
  const blobs = filesIn(path.join(dir, "blobs")).map((file) => {
    const compression = path.extname(file).slice(1);
    if (!(compression in Compression)) throw new Error(`${file}: the extension must name its compression`);
    return { compression: compression as CompressionName, bytes: readFileSync(file) };
  });
  return { blobs, archives: filesIn(path.join(dir, "archives")).map((file) => readFileSync(file)) };
}
