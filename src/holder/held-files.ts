/**
 * What belongs to a descriptor in systemd's store, which keeps a name beside it and nothing else: one file for each, `<runDir>/held/<id>.json`, written beside and renamed, so
 * that it is there as a whole or not at all.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";

export interface HeldFile {
  readonly mountpoint: string;
  readonly note: string;
  /** Hexadecimal. */
  readonly initResult?: string;
}

export class HeldFiles {
  readonly #dir: string;

  /** Makes the directory, and removes what a writer left that was killed. */
  constructor(runDir: string) {
    this.#dir = path.join(runDir, "held");
    this.#local(() => {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
      for (const name of readdirSync(this.#dir))
        if (name.endsWith(".new")) rmSync(path.join(this.#dir, name), { force: true });
    });
  }

  ids(): string[] {
    return this.#local(() => readdirSync(this.#dir))
      .filter((name) => name.endsWith(".json"))
      .map((name) => name.slice(0, -".json".length));
  }

  /** Undefined where there is none that can be read. */
  read(id: string): HeldFile | undefined {
    try {
      const { mountpoint, note, initResult } = JSON.parse(readFileSync(this.#file(id), "utf8"));
      if (typeof mountpoint !== "string" || typeof note !== "string") return undefined;
      return { mountpoint, note, ...(typeof initResult === "string" ? { initResult } : {}) };
    } catch {
      return undefined;
    }
  }

  /** Throws LOCAL_IO. */
  write(id: string, held: HeldFile): void {
    const file = this.#file(id);
    this.#local(() => {
      writeFileSync(`${file}.new`, JSON.stringify(held), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    });
  }

  remove(id: string): void {
    this.#local(() => rmSync(this.#file(id), { force: true }));
  }

  #file(id: string): string {
    return path.join(this.#dir, `${id}.json`);
  }

  #local<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (cause) {
      throw new SkimError(
        "LOCAL_IO",
        `what is kept cannot be noted in ${this.#dir} (${systemErrorCode(cause)})`,
        {
          cause,
        },
      );
    }
  }
}
