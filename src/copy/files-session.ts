/**
 * A conversation with skim-files, wherever it runs: requests go in, one after the other, answers come out in that order.
 *
 * Nothing is buffered but what the pipes hold: writing waits until the other side reads. When the conversation is given up, the program gets the end
 * of its input first, and time to remove what is unfinished; then it is killed.
 */
import { getSystemErrorMap } from "node:util";
import { type ByteString, byteStringOf, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import type { ContainerEntry } from "./container-entry.js";
import type { FilesTransport } from "./files-transport.js";
import {
  brokenProtocol,
  encodeFrame,
  Fields,
  type Frame,
  FrameReader,
  frameHeader,
  Payload,
} from "./frames.js";

const protocolVersion = 2;

/** How long a program that was given up may take to remove what is unfinished, ms: it has to write nothing. And how long to die, when it is killed then. */
const graceMs = 2000;

/** Of what is said of a failure: one line. */
const whatBytesMax = 300;

export interface Outcome {
  /** 0: done. */
  readonly errno: number;
  readonly what: string;
}

export class FilesSession {
  readonly #transport: FilesTransport;
  readonly #frames: FrameReader;
  readonly #onMove: () => void;
  /** Resolves when a program that does not even die is left behind: nobody waits for it then. */
  readonly #left: Promise<string>;
  #leave: (how: string) => void = () => {};

  /** `onMove` is called when something came from the program, or went to it. */
  constructor(transport: FilesTransport, onMove: () => void = () => {}) {
    this.#transport = transport;
    this.#onMove = onMove;
    this.#left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    this.#frames = new FrameReader(transport.output);
  }

  /**
   * Resolves when the program has its root. `hidden` are absolute paths at which the container has mounts that cannot be seen. Throws RUNTIME_FAILED,
   * NOT_FOUND where the container has ended.
   */
  async begin(hidden: readonly string[]): Promise<void> {
    const hello = await this.#take();
    if (hello.type !== "h" || new Fields(hello.payload).u32() !== protocolVersion)
      throw brokenProtocol(
        "the container was started by another version of skim, and has its program; start it anew",
      );
    for (const path of hidden) await this.write("H", Buffer.from(path));
  }

  async write(type: string, payload: Uint8Array): Promise<void> {
    const { input } = this.#transport;
    if (input.destroyed || input.writableEnded) throw await this.#deathCause();
    if (input.write(encodeFrame(type, payload))) return this.#onMove();
    await new Promise<void>((resolve) => {
      const done = () => {
        for (const name of ["drain", "close", "error"]) input.off(name, done);
        resolve();
      };
      for (const name of ["drain", "close", "error"]) input.once(name, done);
    });
    this.#onMove();
  }

  /** Content of a file. Resolves when `piece` is not used any more: the caller may fill the same memory again. */
  async writeContent(piece: Uint8Array): Promise<void> {
    const { input } = this.#transport;
    if (input.destroyed || input.writableEnded) throw await this.#deathCause();
    await new Promise<void>((resolve) => {
      // A write that is under way when the stream is destroyed is never called back.
      const done = () => {
        input.off("close", done);
        resolve();
      };
      input.once("close", done);
      input.cork();
      input.write(frameHeader("D", piece.byteLength));
      // An error as well: the next call meets it.
      input.write(piece, done);
      input.uncork();
    });
    this.#onMove();
  }

  /** Entries and contents up to the outcome of a request, as they come. */
  async *answers(): AsyncGenerator<Frame, Outcome> {
    for (;;) {
      const frame = await this.#take();
      if (frame.type === "r") return readOutcome(frame);
      yield frame;
    }
  }

  /** The outcome of a request that answers nothing else but signs of life. */
  async outcome(): Promise<Outcome> {
    let frame = await this.#take();
    while (frame.type === "p") frame = await this.#take();
    if (frame.type !== "r") throw brokenProtocol(`a frame of type ${JSON.stringify(frame.type)}`);
    return readOutcome(frame);
  }

  /**
   * Ends the program, whatever it is at. Resolves when it has ended: to true where it had to be killed, and may have left a file unfinished; one that not even
   * dies (it waits for a filesystem whose server is gone) is left behind. May be called again.
   */
  close(): Promise<boolean> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  #closed: Promise<boolean> | undefined;

  async #close(): Promise<boolean> {
    const { input, output } = this.#transport;
    input.end();
    // It may be writing: nobody wants that any more, and it sees so.
    output.close();
    if (await this.#endsInTime()) return false;
    this.#transport.kill();
    // Whoever waits until it takes what was written waits no longer.
    input.destroy();
    if (!(await this.#endsInTime())) this.#leave("it does not end");
    return true;
  }

  async #endsInTime(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), graceMs);
    });
    const isInTime = await Promise.race([this.#transport.ended.then(() => true), late]);
    clearTimeout(timer);
    return isInTime;
  }

  async #take(): Promise<Frame> {
    const frame = await this.#frames.next();
    if (!frame) throw await this.#deathCause();
    this.#onMove();
    if (frame.type === "x") {
      const { errno, what } = readOutcome(frame);
      throw errnoName(errno) === "ESRCH"
        ? new SkimError("NOT_FOUND", "the container has ended")
        : new SkimError(
            "RUNTIME_FAILED",
            `files of the container cannot be reached: ${what}: ${errnoName(errno)}`,
          );
    }
    return frame;
  }

  async #deathCause(): Promise<SkimError> {
    this.#transport.input.end();
    const how = await Promise.race([this.#transport.ended, this.#left]);
    return new SkimError("RUNTIME_FAILED", `the program that reaches into the container has ended: ${how}`);
  }
}

function readOutcome(frame: Frame): Outcome {
  const fields = new Fields(frame.payload);
  return { errno: fields.u32(), what: whatOf(fields) };
}

function whatOf(fields: Fields): string {
  return displayText(byteStringOf(fields.rest().subarray(0, whatBytesMax)));
}

/** Reads a 'w' frame: what is wrong with an entry. Throws as readEntry. */
export function readProblem(frame: Frame): { path: ByteString; outcome: Outcome } {
  const fields = new Fields(frame.payload);
  const errno = fields.u32();
  const path = byteStringOf(fields.bytes());
  if (errno === 0 || !isBelow(path)) throw brokenProtocol(`a problem with ${displayText(path)}`);
  return { path, outcome: { errno, what: whatOf(fields) } };
}

/** Reads an 'e' frame. Throws RUNTIME_FAILED for a path that leads anywhere else than below. */
export function readEntry(frame: Frame): ContainerEntry {
  const fields = new Fields(frame.payload);
  const kind = kinds[String.fromCharCode(fields.u8())];
  if (!kind) throw brokenProtocol("an entry of no known kind");
  const entry = {
    kind,
    mode: fields.u32() & 0o7777,
    uid: fields.u32(),
    gid: fields.u32(),
    size: Number(fields.u64()),
    mtimeSec: Number(fields.i64()),
    mtimeNsec: fields.u32(),
    path: byteStringOf(fields.bytes()),
    target: byteStringOf(fields.rest()),
  };
  if (!isBelow(entry.path)) throw brokenProtocol(`an entry at ${displayText(entry.path)}`);
  const { mtimeSec, mtimeNsec, target } = entry;
  if (
    !Number.isSafeInteger(mtimeSec) ||
    mtimeNsec > 999_999_999 ||
    target.length > pathBytesMax ||
    target.includes("\0")
  )
    throw brokenProtocol("an entry that no filesystem has");
  return entry;
}

const kinds: Record<string, ContainerEntry["kind"]> = {
  f: "file",
  d: "directory",
  l: "symlink",
  o: "other",
};

/** PATH_MAX. */
const pathBytesMax = 4096;
const nameBytesMax = 255;

function isBelow(path: ByteString): boolean {
  if (path === "") return true;
  if (path.length > pathBytesMax + nameBytesMax || path.includes("\0")) return false;
  return path.split("/").every((name) => name !== "" && name !== "." && name !== "..");
}

/** The name of an errno that came from a Linux kernel, e.g. ENOSPC. */
export function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}

/** One line of what went wrong with `path`, for a person. */
export function describeOutcome(path: ByteString, { errno, what }: Outcome): string {
  const name = errnoName(errno);
  const explained: Record<string, string> = {
    EXDEV: what,
    ENOENT: "no such file or directory",
    ENOSPC: "no space left",
    EROFS: "the filesystem is read-only",
    EBUSY: "it is a mount of the container",
    EEXIST: what,
    EMFILE: "directories deeper than can be opened",
    ENAMETOOLONG: "the path, or a name in it, is too long",
    EISDIR: "it is a directory",
    ENOTDIR: "something above it is no directory",
    ENOTEMPTY: "the directory is not empty",
    ELOOP: "too many symlinks, or one of those of /proc that lead out",
    EOVERFLOW: what,
  };
  const reason = explained[name];
  const step = what && reason !== what ? ` (${what})` : "";
  return `${displayText(path)}: ${reason ? `${reason}${step}` : `${what}: ${name}`}`;
}

/** Removes what a 'P' request has left unfinished in a program that was killed. */
export async function removeUnfinished(session: FilesSession, file: UnfinishedFile): Promise<void> {
  const { path, number, follow } = file;
  await session.write(
    "T",
    new Payload()
      .u8(follow ? 1 : 0)
      .u32(number)
      .rest(bytesOf(path))
      .encode(),
  );
  // It was finished, or never begun: then there is nothing.
  await session.outcome();
}

export interface UnfinishedFile {
  readonly path: ByteString;
  readonly number: number;
  readonly follow: boolean;
}

export function requestOf(flag: boolean, path: ByteString): Buffer {
  return new Payload()
    .u8(flag ? 1 : 0)
    .rest(bytesOf(path))
    .encode();
}
