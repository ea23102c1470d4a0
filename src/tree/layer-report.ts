import type { ByteString } from "../base/byte-string.js";
import { type ErrorCode, SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { shownName } from "../layer/tar-names.js";

/** Warnings of one layer that are kept: they end up in every archive, and a layer can be odd in all its million entries. */
const WARNINGS_PER_LAYER_MAX = 50;

/** Says what is wrong or odd in one layer, always with the layer and the path that it stands at. */
export class LayerReport {
  readonly #where: string;
  readonly #warnings: string[] = [];
  #unsaid = 0;

  /** `where` names the layer. */
  constructor(where: string) {
    this.#where = where;
  }

  /** The error to throw: `found` says what was found at `path` and what to do. */
  error(code: ErrorCode, path: ByteString, found: string): SkimError {
    return new SkimError(code, `${this.#where}: ${shownName(path)} ${found}`);
  }

  /** For a file name (one part of a path) that is longer than any filesystem takes. */
  nameTooLong(path: ByteString, name: ByteString): SkimError {
    const found = `has a name of ${name.length} bytes in it; Linux takes ${limits.nameBytesMax} at most`;
    return this.error("LIMIT_EXCEEDED", path, found);
  }

  warn(path: ByteString, found: string): void {
    if (this.#warnings.length < WARNINGS_PER_LAYER_MAX)
      this.#warnings.push(`${this.#where}: ${shownName(path)} ${found}`);
    else this.#unsaid++;
  }

  /** All warnings in their order, and how many more there were. */
  get warnings(): readonly string[] {
    if (this.#unsaid === 0) return this.#warnings;
    return [...this.#warnings, `${this.#where}: ${this.#unsaid} further warnings are left out`];
  }
}
