/**
 * Many files into a container in one stream. Each has its own result; one that fails keeps none of the others from their place.
 *
 * Files are sent while results of those before come back, at most `inFlightMax` of them, so that a thousand small files do not wait for a thousand
 * round trips, and memory does not grow with their number.
 */
import { type ByteString, byteStringFromText, byteStringOf, bytesOf } from "../base/byte-string.js";
import { describeError, SkimError } from "../base/errors.js";
import type { CopyResult, FileToCopy, PathInput } from "./container-entry.js";
import { describeOutcome, errnoName, type FilesSession, type UnfinishedFile } from "./files-session.js";
import { frameBytesMax, Payload } from "./frames.js";

/** An answer has some 50 bytes: far from filling a pipe while nobody reads. */
const inFlightMax = 64;
/** utimensat(2) takes less than this; it says "now" to skim-files. */
const nowNanoseconds = 0xffff_ffff;
const lastLinkIsFollowed = (file: FileToCopy) => file.kind !== "symlink";

export interface PutOptions {
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Told of each file before it is sent, and of its result: what is in between may be left unfinished by a program that is killed. */
  readonly onSend?: (unfinished: UnfinishedFile) => void;
  readonly onResult?: (result: CopyResult) => void;
}

/** Resolves to the results, in the order of the files. Throws RUNTIME_FAILED where the program ends, USAGE for a file that cannot be meant. */
export async function putFiles(
  session: FilesSession,
  files: Iterable<FileToCopy> | AsyncIterable<FileToCopy>,
  options: PutOptions,
): Promise<CopyResult[]> {
  const results: CopyResult[] = [];
  const sent: { path: ByteString; failure?: string }[] = [];
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
      const outcome = await session.outcome();
      sent.shift();
      const { path } = next;
      const result: CopyResult =
        outcome.errno === 0
          ? { path }
          : next.failure === undefined
            ? { path, error: describeOutcome(path, outcome), errno: errnoName(outcome.errno) }
            : { path, error: next.failure };
      results.push(result);
      options.onResult?.(result);
      wakeSender();
    }
  };
  let giveUp = () => {};
  const over = new Promise<undefined>((resolve) => {
    giveUp = () => resolve(undefined);
  });
  const receiving = receive().catch((error: unknown) => {
    failure ??= error;
    wakeSender();
    giveUp();
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
      const next = failure ? undefined : await Promise.race([source.next(), over]);
      if (!next || next.done) break;
      const file = next.value;
      const path = pathOf(file.path);
      const item: { path: ByteString; failure?: string } = { path };
      options.onSend?.({ path, number, follow: lastLinkIsFollowed(file) });
      await session.write("P", putRequest(file, path, number++, options.owner));
      sent.push(item);
      wakeReader();
      if ((file.kind ?? "file") === "file") await sendContent(session, file, item, over);
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

function iterate(files: Iterable<FileToCopy> | AsyncIterable<FileToCopy>): AsyncIterator<FileToCopy> {
  if (Symbol.asyncIterator in files) return files[Symbol.asyncIterator]();
  const plain = files[Symbol.iterator]();
  return {
    next: async () => plain.next(),
    return: async () => plain.return?.() ?? { done: true, value: undefined },
  };
}

/** The end of a file, or that there is none: what was sent of it is thrown away then, and the reason is in its result. `over`: nobody listens any more. */
async function sendContent(
  session: FilesSession,
  file: FileToCopy,
  item: { failure?: string },
  over: Promise<undefined>,
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
      const next = await Promise.race([read, over]);
      if (next === undefined) return;
      if (next === "failed") return await session.write("A", new Uint8Array());
      if (next.done) return await session.write("E", new Uint8Array());
      await send(next.value);
    }
  } finally {
    void pieces.return?.()?.then(undefined, () => {});
  }
}

function putRequest(file: FileToCopy, path: ByteString, number: number, owner: PutOptions["owner"]): Buffer {
  const { kind = "file", mtime } = file;
  const target = file.target === undefined ? ("" as ByteString) : pathOf(file.target);
  if ((kind === "symlink") !== (target !== ""))
    throw new SkimError("USAGE", "a symlink has a target, and nothing else has one");
  return new Payload()
    .u8({ file: 0x66, directory: 0x64, symlink: 0x6c }[kind])
    .u8(lastLinkIsFollowed(file) ? 1 : 0)
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
