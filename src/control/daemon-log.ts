/**
 * The daemon's log: standard error, for whoever runs it, and a file, from which the lines of one mount can be had: each line of a mount has its id as `mount`.
 */
import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { createLogger, type Logger, type LogLevel } from "../base/logger.js";
import { MountRecords } from "../mount/mount-record.js";

/** Then the file becomes `<file>.1`, in the place of the one before: on the tmpfs that /run is, it takes twice this. */
const fileBytesMax = 8 * 1024 * 1024;

export class DaemonLog {
  readonly file: string;
  readonly #records: MountRecords;
  /** False where standard error is this file: the holder starts servers so. */
  readonly #toStderr: boolean;
  #descriptor: number;
  #bytes: number;

  constructor(runDir: string) {
    const directory = path.join(runDir, "logs");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.file = path.join(directory, "daemon.log");
    this.#records = new MountRecords(runDir);
    this.#descriptor = openSync(this.file, "a", 0o600);
    const { dev, ino, size } = fstatSync(this.#descriptor);
    const stderr = fstatSync(2);
    this.#toStderr = stderr.dev !== dev || stderr.ino !== ino;
    this.#bytes = size;
  }

  logger(level: LogLevel): Logger {
    return createLogger(level, { write: (line) => this.#write(line) });
  }

  /** The last lines of a mount, and of the image under it, each with its newline. Only what the files still have. Throws NOT_FOUND for what is neither mounted nor spoken of. */
  async last(id: string, lines: number): Promise<string> {
    const record = await this.#records.find(id);
    const marks = [id, record?.sharedImage]
      .filter((each) => each !== undefined)
      .map((each) => `"mount":${JSON.stringify(each)}`);
    const texts = await Promise.all(
      [`${this.file}.1`, this.file].map((file) => readFile(file, "utf8").catch(() => "")),
    );
    const found = texts
      .join("")
      .split("\n")
      .filter((line) => marks.some((mark) => line.includes(mark)));
    if (found.length === 0 && !record)
      throw new SkimError(
        "NOT_FOUND",
        `no mount has id ${id}, and no line of the log is about it; skim ps lists what is mounted`,
      );
    return found
      .slice(-lines)
      .map((line) => `${line}\n`)
      .join("");
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #write(line: string): void {
    if (this.#toStderr) process.stderr.write(line);
    try {
      if (this.#bytes > fileBytesMax) this.#rotate();
      this.#bytes += writeSync(this.#descriptor, line);
    } catch {
      // A full tmpfs must not end a server.
    }
  }

  #rotate(): void {
    renameSync(this.file, `${this.file}.1`);
    closeSync(this.#descriptor);
    this.#descriptor = openSync(this.file, "a", 0o600);
    this.#bytes = 0;
  }
}
