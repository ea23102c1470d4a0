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
  const receiving = receive().catch((error: unknown) => {
    failure ??= error;
    wakeSender();
  });

  let number = 0;
  try {
    for await (const file of files) {
      while (sent.length >= inFlightMax && !failure) {
        await new Promise<void>((resolve) => {
          wakeSender = resolve;
        });
      }
      if (failure) break;
      const path = pathOf(file.path);
      const item: { path: ByteString; failure?: string } = { path };
      options.onSend?.({ path, number, follow: lastLinkIsFollowed(file) });
      await session.write("P", putRequest(file, path, number++, options.owner));
      sent.push(item);
      wakeReader();
      if ((file.kind ?? "file") === "file")
        await sendContent(session, file, item, () => failure !== undefined);
    }
  } catch (error) {
    failure ??= error;
  }
  isAllSent = true;
  wakeReader();
  if (failure) throw failure;
  await receiving;
  if (failure) throw failure;
  return results;
}

/** The end of a file, or that there is none: what was sent of it is thrown away then, and the reason is in its result. */
async function sendContent(
  session: FilesSession,
  file: FileToCopy,
  item: { failure?: string },
  isOver: () => boolean,
): Promise<void> {
  const { content = new Uint8Array() } = file;
  const pieces = content instanceof Uint8Array ? [content] : content[Symbol.asyncIterator]();
  const send = async (piece: Uint8Array) => {
    for (let at = 0; at < piece.byteLength; at += frameBytesMax)
      await session.write("D", piece.subarray(at, at + frameBytesMax));
  };
  if (Array.isArray(pieces)) {
    for (const piece of pieces) await send(piece);
    return await session.write("E", new Uint8Array());
  }
  try {
    for (;;) {
      // Only what the caller's content throws is a matter of this file.
      const next = await pieces.next().catch((error: unknown) => {
        item.failure = describeError(error);
        return undefined;
      });
      if (!next) return await session.write("A", new Uint8Array());
      if (next.done) return await session.write("E", new Uint8Array());
      await send(next.value);
      if (isOver()) return;
    }
  } finally {
    await pieces.return?.().catch(() => {});
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
