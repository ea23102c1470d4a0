/**
 * Registries that asked for no authorization when they were last greeted, an empty file each: `<cacheDir>/open-registries/<origin>`. They need not be greeted by every process:
 * that is a round trip before the first byte of a start. What is remembered wrongly costs a refusal, which is answered as any other.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

export class OpenRegistries {
  readonly #directory: string;

  constructor(cacheDir: string) {
    this.#directory = path.join(cacheDir, "open-registries");
  }

  has(origin: string): boolean {
    return existsSync(this.#fileOf(origin));
  }

  /** Never throws: it is a hint. */
  note(origin: string, isOpen: boolean): void {
    if (this.has(origin) === isOpen) return;
    try {
      if (isOpen) {
        mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
        writeFileSync(this.#fileOf(origin), "", { mode: 0o600 });
      } else rmSync(this.#fileOf(origin), { force: true });
    } catch {
      // No place for it.
    }
  }

  #fileOf(origin: string): string {
    return path.join(this.#directory, encodeURIComponent(origin));
  }
}
