/**
 * Many files into a container in one stream. Each has its own result; one that fails keeps none of the others from their place.
 *
 * Files are sent while results of those before come back, at most `inFlightMax` of them, so that a thousand small files do not wait for a thousand
 * round trips, and memory does not grow with their number.
 */
import { posix } from "node:path";
import {
  type ByteString,
  byteStringFromText,
  byteStringOf,
  bytesOf,
  displayText,
} from "../base/byte-string.js";
import { describeError, SkimError } from "../base/errors.js";
import type { CopyResult, FileToCopy, PathInput } from "./container-entry.js";
import {
  describeOutcome,
  errnoName,
  type FilesSession,
  type Outcome,
  type UnfinishedFile,
} from "./files-session.js";
import { frameBytesMax, Payload } from "./frames.js";

/** An answer has some 50 bytes: far from filling a pipe while nobody reads. */
const inFlightMax = 64;
/** utimensat(2) takes less than this; it says "now" to skim-files. */
const nowNanoseconds = 0xffff_ffff;
const lastLinkIsFollowed = (file: FileToCopy) => file.kind !== "symlink";

export interface PutOptions {
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Where the container has mounts, and of what on this host: a file that is one cannot be replaced, and its result says what can be done. */
  readonly mounts?: ReadonlyMap<string, string>;
  readonly onResult?: (result: CopyResult) => void;
}

/** A file that was sent, or is being sent. */
export interface SentFile extends UnfinishedFile {
  /** Why it was not sent to its end. */
  failure?: string;
  /** Nothing of it was sent, and no outcome comes. */
  readonly isWithheld: boolean;
}

/**
 * Resolves to the results, in the order of the files. `sent` has, at any time, what is on its way, and may be left unfinished by a program that is killed. Throws
 * RUNTIME_FAILED where the program ends, USAGE for a file that cannot be meant.
 */
export async function putFiles(
  session: FilesSession,
  files: Iterable<FileToCopy> | AsyncIterable<FileToCopy>,
  options: PutOptions,
  sent: SentFile[] = [],
): Promise<CopyResult[]> {
  const results: CopyResult[] = [];
  let isAllSent = false;
  let failure: unknown;
  let wakeSender = () => {};
  let wakeReader = () => {};

  const receive = async () => {
    for (;;) {
      const next = sent[0];
      if (!next) {
        if (isAllSent) return;
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
        continue;
      }
      const outcome = next.isWithheld ? undefined : await session.outcome();
      sent.shift();
      const result = resultOf(next, outcome, options.mounts);
      results.push(result);
      options.onResult?.(result);
      wakeSender();
    }
  };
  const patience = new Patience();
  const receiving = receive().catch((error: unknown) => {
    failure ??= error;
    wakeSender();
    patience.end();
  });

  let number = 0;
  const source = iterate(files);
  try {
    for (;;) {
      while (sent.length >= inFlightMax && !failure) {
        await new Promise<void>((resolve) => {
          wakeSender = resolve;
        });
      }
      // Whoever brings the files may wait for something that does not come.
      const next = failure ? undefined : await patience.waitFor(source.next());
      if (!next || next.done) break;
      const file = next.value;
      const path = pathOf(file.path);
      const item: SentFile = {
        path,
        number: number++,
        follow: lastLinkIsFollowed(file),
        isWithheld: file.error !== undefined,
        ...(file.error === undefined ? {} : { failure: file.error }),
      };
      const request = putRequest(file, item, options.owner);
      sent.push(item);
      if (!item.isWithheld) await session.write("P", request);
      wakeReader();
      if (!item.isWithheld && (file.kind ?? "file") === "file")
        await sendContent(session, file, item, patience);
    }
  } catch (error) {
    failure ??= error;
  } finally {
    // Not awaited: one that waits for something does not return either.
    void source.return?.()?.then(undefined, () => {});
  }
  isAllSent = true;
  wakeReader();
  if (failure) throw failure;
  await receiving;
  if (failure) throw failure;
  return results;
}

/**
 * Waits for what may never come, as long as somebody listens. Not by Promise.race: that leaves something in a promise which does not settle for each time that it is raced
 * with, and pieces of a file are many.
 */
class Patience {
  #isOver = false;
  #giveUp: () => void = () => {};

  /** One at a time. Undefined where nobody listens any more. */
  async waitFor<T>(work: Promise<T>): Promise<T | undefined> {
    if (this.#isOver) {
      work.catch(() => {});
      return undefined;
    }
    return await new Promise<T | undefined>((resolve, reject) => {
      this.#giveUp = () => resolve(undefined);
      work.then(resolve, reject);
    });
  }

  end(): void {
    this.#isOver = true;
    this.#giveUp();
  }
}

function resultOf(
  { path, failure }: SentFile,
  outcome: Outcome | undefined,
  mounts: ReadonlyMap<string, string> = new Map(),
): CopyResult {
  if (outcome?.errno === 0) return { path };
  if (failure !== undefined || outcome === undefined) return { path, error: failure ?? "it was not sent" };
  const errno = errnoName(outcome.errno);
  if (errno !== "EBUSY") return { path, error: describeOutcome(path, outcome), errno };
  const source = mounts.get(posix.resolve("/", path));
  const what = source?.startsWith("/") ? `${source} of this host is` : "something is";
  const advice = "write into it from inside: skim exec ID -- sh -c 'cat > FILE'";
  return {
    path,
    error: `${displayText(path)}: ${what} mounted there, and no file can take its place; ${advice}`,
    errno,
  };
}

function iterate(files: Iterable<FileToCopy> | AsyncIterable<FileToCopy>): AsyncIterator<FileToCopy> {
  if (Symbol.asyncIterator in files) return files[Symbol.asyncIterator]();
  const plain = files[Symbol.iterator]();
  return {
    next: async () => plain.next(),
    return: async () => plain.return?.() ?? { done: true, value: undefined },
  };
}

/** The end of a file, or that there is none: what was sent of it is thrown away then, and the reason is in its result. */
async function sendContent(
  session: FilesSession,
  file: FileToCopy,
  item: { failure?: string },
  patience: Patience,
): Promise<void> {
  const { content = new Uint8Array() } = file;
  const send = async (piece: Uint8Array) => {
    for (let at = 0; at < piece.byteLength; at += frameBytesMax)
      await session.writeContent(piece.subarray(at, at + frameBytesMax));
  };
  if (content instanceof Uint8Array) {
    await send(content);
    return await session.write("E", new Uint8Array());
  }
  const pieces = content[Symbol.asyncIterator]();
  try {
    for (;;) {
      // Only what the caller's content throws is a matter of this file.
      const read = pieces.next().catch((error: unknown) => {
        item.failure = describeError(error);
        return "failed" as const;
      });
      const next = await patience.waitFor(read);
      if (next === undefined) return;
      if (next === "failed") return await session.write("A", new Uint8Array());
      if (next.done) return await session.write("E", new Uint8Array());
      await send(next.value);
    }
  } finally {
    void pieces.return?.()?.then(undefined, () => {});
  }
}

function putRequest(
  file: FileToCopy,
  { path, number, follow }: SentFile,
  owner: PutOptions["owner"],
): Buffer {
  const { kind = "file", mtime } = file;
  const target = file.target === undefined ? ("" as ByteString) : pathOf(file.target);
  if ((kind === "symlink") !== (target !== ""))
    throw new SkimError("USAGE", "a symlink has a target, and nothing else has one");
  return new Payload()
    .u8({ file: 0x66, directory: 0x64, symlink: 0x6c }[kind])
    .u8(follow ? 1 : 0)
    .u32(number)
    .u32((file.mode ?? (kind === "directory" ? 0o755 : 0o644)) & 0o7777)
    .u32(file.uid ?? owner.uid)
    .u32(file.gid ?? owner.gid)
    .i64(mtime?.seconds ?? 0)
    .u32(mtime?.nanoseconds ?? nowNanoseconds)
    .bytes(bytesOf(path))
    .rest(bytesOf(target))
    .encode();
}

/** Throws USAGE for a path that no system call takes. */
export function pathOf(input: PathInput): ByteString {
  const path = typeof input === "string" ? byteStringFromText(input) : byteStringOf(input);
  if (path === "" || path.includes("\0") || path.length > 4095)
    throw new SkimError(
      "USAGE",
      `${JSON.stringify(path.slice(0, 100))} is no path: empty, too long or with a NUL`,
    );
  return path;
}
