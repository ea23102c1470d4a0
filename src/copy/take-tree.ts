/** A file or a tree out of a container, into a directory of the host. What comes is checked before anything is made of it. */
import { type ByteString, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import type { CopyResult } from "./container-entry.js";
import { describeOutcome, errnoName, type FilesSession, readEntry, readProblem } from "./files-session.js";
import { brokenProtocol, Fields, Payload } from "./frames.js";
import type { HostWriter } from "./host-writer.js";

export interface TakeLimits {
  /** Files, directories and symlinks. */
  readonly entriesMax: number;
  /** Of all files together. */
  readonly bytesMax: number;
  /** Of directories in each other. */
  readonly depthMax: number;
}

/** What is made of a tree as it comes, entry by entry; see HostWriter. */
export type TreeWriter = Pick<
  HostWriter,
  "makeDirectory" | "makeSymlink" | "openFile" | "write" | "closeFile" | "dropFile" | "finish"
>;

export interface TakenTree {
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly bytes: number;
  /** Devices, FIFOs and sockets, of which nothing is made, and what could not be read. */
  readonly skipped: readonly CopyResult[];
}

/** More are not told of one by one. */
const skippedMax = 1000;

/**
 * Takes what is at `path`; a symlink there is followed. Throws NOT_FOUND, LIMIT_EXCEEDED, LOCAL_IO for what the host cannot write, RUNTIME_FAILED. What was
 * written before stays; a file is whole or not there.
 */
export async function takeTree(
  session: FilesSession,
  path: ByteString,
  writer: TreeWriter,
  limits: TakeLimits,
): Promise<TakenTree> {
  await session.write("G", treeRequest(path, limits));
  const taken = { files: 0, directories: 0, symlinks: 0, bytes: 0 };
  const skipped: CopyResult[] = [];
  const skip = (entry: ByteString, error: string, errno?: string) => {
    if (skipped.length < skippedMax) skipped.push({ path: entry, error, ...(errno ? { errno } : {}) });
  };
  const answers = session.answers();
  let entries = 0;
  const count = (depth: number) => {
    if (++entries > limits.entriesMax || depth > limits.depthMax)
      throw refusal(path, { errno: overflow, what: "more entries, or deeper ones, than are to be copied" });
  };
  /** The file whose content comes. */
  let current: ByteString | undefined;
  for (;;) {
    const next = await answers.next();
    if (next.done) {
      await writer.dropFile();
      if (next.value.errno !== 0) throw refusal(path, next.value);
      await writer.finish();
      return { ...taken, skipped };
    }
    const frame = next.value;
    if (frame.type === "e") {
      if (current !== undefined) throw brokenProtocol("an entry in the middle of a file");
      const entry = readEntry(frame);
      count(entry.path === "" ? 0 : entry.path.split("/").length);
      if (entry.kind === "file") current = entry.path;
      if (entry.kind === "file") await writer.openFile(entry);
      else if (entry.kind === "directory") await writer.makeDirectory(entry).then(() => taken.directories++);
      else if (entry.kind === "symlink") await writer.makeSymlink(entry).then(() => taken.symlinks++);
      else skip(entry.path, `${displayText(entry.path)}: a device, a FIFO or a socket is not copied`);
    } else if (frame.type === "d") {
      if (current === undefined || frame.payload.byteLength === 0) throw brokenProtocol("bytes of no file");
      taken.bytes += frame.payload.byteLength;
      if (taken.bytes > limits.bytesMax)
        throw refusal(path, { errno: overflow, what: "more bytes than are to be copied" });
      await writer.write(frame.payload);
    } else if (frame.type === "w" && current === undefined) {
      const problem = readProblem(frame);
      count(0);
      skip(problem.path, describeOutcome(problem.path, problem.outcome), errnoName(problem.outcome.errno));
    } else if (frame.type === "z" && current !== undefined) {
      const errno = new Fields(frame.payload).u32();
      if (errno === 0) {
        await writer.closeFile().then(() => taken.files++);
      } else {
        skip(current, describeOutcome(current, { errno, what: "reading it" }), errnoName(errno));
        await writer.dropFile();
      }
      current = undefined;
    } else {
      throw brokenProtocol(`a frame of type ${JSON.stringify(frame.type)}`);
    }
  }
}

/** EOVERFLOW, which skim-files gives where a limit is reached. */
const overflow = 75;

export function refusal(path: ByteString, outcome: { errno: number; what: string }): SkimError {
  const line = describeOutcome(path, outcome);
  const name = errnoName(outcome.errno);
  if (name === "ENOENT" || name === "ENOTDIR") return new SkimError("NOT_FOUND", `${line}, in the container`);
  if (name === "EOVERFLOW")
    return new SkimError("LIMIT_EXCEEDED", `${line}; raise the limit of entries, bytes or depth`);
  if (name === "EXDEV") return new SkimError("USAGE", line);
  return new SkimError("RUNTIME_FAILED", line);
}

function treeRequest(path: ByteString, limits: TakeLimits): Buffer {
  return new Payload()
    .u8(1)
    .i64(limits.entriesMax)
    .i64(limits.bytesMax)
    .u32(limits.depthMax)
    .rest(bytesOf(path))
    .encode();
}
