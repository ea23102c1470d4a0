/**
 * Files of a container, as `exec` sees them: into it, out of it, listed, removed.
 *
 *     runc, crun   in the mount namespace of the container's first process, pinned by pid and start time
 *     runsc        inside of the sandbox, by a process that the runtime starts there
 *     no container the merged view on this host; what lies below mounts of its config.json, which are not there yet, is refused
 */
import { randomBytes } from "node:crypto";
import { realpath } from "node:fs/promises";
import path from "node:path";
import { type ByteString, byteStringFromText } from "../base/byte-string.js";
import { describeError } from "../base/errors.js";
import { resolveSettings, type SettingsInput } from "../base/settings.js";
import type { ContainerEntry, CopyResult, FileToCopy, PathInput } from "../copy/container-entry.js";
import { FilesSession, removeUnfinished, type UnfinishedFile } from "../copy/files-session.js";
import { HostWriter } from "../copy/host-writer.js";
import { listEntries, removeEntry, statEntry } from "../copy/look-at-files.js";
import { pathOf, putFiles, type SentFile } from "../copy/put-files.js";
import { readFile } from "../copy/read-file.js";
import { type TakeLimits, type TakenTree, takeTree } from "../copy/take-tree.js";
import { type ContainerView, findView } from "./container-view.js";
import { CopyClock } from "./copy-clock.js";

export interface ContainerFilesOptions {
  /** Of a container of `skim run`, or a rootfs or bundle. */
  readonly id: string;
  /** What is not done by then is given up, and what is unfinished removed. 0: no limit. Default: none for copies, for all else ten minutes. */
  readonly timeoutMs?: number;
  /** The same, when for this time nothing has come from the container, nor from the files to be copied in. 0: no limit. Default: two minutes. */
  readonly stallTimeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly settings?: SettingsInput;
}

/** Of what has little to do: a copy takes as long as it is large. */
const lookTimeoutMsDefault = 600_000;
const stallTimeoutMsDefault = 120_000;
/** For taking away what a killed program has left. */
const tidyTimeoutMs = 10_000;

/** Far above what a tree of files has, and below what fills a host: entries, bytes, directories in each other. */
export const takeLimitsDefault: TakeLimits = { entriesMax: 1_000_000, bytesMax: 64 * 2 ** 30, depthMax: 256 };

export interface CopyInOptions extends ContainerFilesOptions {
  /** In this order; read when their turn comes. */
  readonly files: Iterable<FileToCopy> | AsyncIterable<FileToCopy>;
  /** Called as soon as each is in its place, or has failed. */
  readonly onResult?: (result: CopyResult) => void;
}

/**
 * Puts files into a container, and resolves to a result for each, in their order: one that fails does not keep the others. A file is there as a whole or not
 * at all, with its owner, mode and time. Throws NOT_FOUND, DEADLINE_EXCEEDED, CANCELLED, RUNTIME_FAILED; what has had its result by then stays.
 */
export async function copyIn(options: CopyInOptions): Promise<CopyResult[]> {
  const { files, onResult } = options;
  const sent: SentFile[] = [];
  return await withFiles(
    { timeoutMs: 0, ...options },
    ({ session, owner, mounts }) =>
      putFiles(session, files, { owner, mounts, ...(onResult ? { onResult } : {}) }, sent),
    sent,
  );
}

export interface CopyOutOptions extends ContainerFilesOptions {
  /** In the container; a symlink there is followed. */
  readonly path: PathInput;
  /** On this host, where it is to be: its directory is there. A symlink is followed, a directory written into, a file replaced, anything else refused. */
  readonly to: PathInput;
  readonly limits?: Partial<TakeLimits>;
}

/**
 * Takes a file or a tree out of a container. Owners and setuid bits stay behind; symlinks are copied as such, devices, FIFOs and sockets are not. Throws
 * NOT_FOUND, LIMIT_EXCEEDED, LOCAL_IO, DEADLINE_EXCEEDED, CANCELLED, RUNTIME_FAILED; what was written by then stays, each file as a whole.
 */
export async function copyOut(options: CopyOutOptions): Promise<TakenTree> {
  const from = pathOf(options.path);
  const given = pathOf(options.to);
  const to = await hostPath(given);
  const writer = await HostWriter.open(
    Buffer.from(path.dirname(to), "latin1"),
    path.basename(to) as ByteString,
  );
  try {
    const limits = { ...takeLimitsDefault, ...options.limits };
    return await withFiles({ timeoutMs: 0, ...options }, ({ session }) =>
      takeTree(session, from, writer, limits),
    );
  } finally {
    await writer.close();
  }
}

/** Absolute; where it ends in a symlink, what that leads to. */
async function hostPath(given: ByteString): Promise<string> {
  const absolute = given.startsWith("/") ? given : `${byteStringFromText(process.cwd())}/${given}`;
  const resolved = path.resolve(absolute);
  return await realpath(Buffer.from(resolved, "latin1"), { encoding: "latin1" }).catch(() => resolved);
}

/** Entries of a directory of a container, sorted by name as bytes. Throws NOT_FOUND, LIMIT_EXCEEDED and as above. */
export async function listFiles(
  options: ContainerFilesOptions & { readonly path: PathInput },
): Promise<ContainerEntry[]> {
  const from = pathOf(options.path);
  return await withFiles(options, ({ session }) => listEntries(session, from, takeLimitsDefault.entriesMax));
}

/** What is at a path of a container, undefined where there is nothing; `follow`: where a symlink there leads. */
export async function statFile(
  options: ContainerFilesOptions & { readonly path: PathInput; readonly follow?: boolean },
): Promise<ContainerEntry | undefined> {
  const from = pathOf(options.path);
  return await withFiles(options, ({ session }) => statEntry(session, from, options.follow ?? false));
}

/** Removes what is at a path of a container, a symlink itself; with all below it if `recursive`, but for other mounts. Throws NOT_FOUND and as above. */
export async function removeFile(
  options: ContainerFilesOptions & { readonly path: PathInput; readonly recursive?: boolean },
): Promise<void> {
  const from = pathOf(options.path);
  await withFiles(options, ({ session }) => removeEntry(session, from, options.recursive ?? false));
}

/** Texts of small files of a container, in their order; undefined where there is no regular file. Throws LIMIT_EXCEEDED and as above. */
export async function readTextFiles(
  options: ContainerFilesOptions & { readonly paths: readonly PathInput[]; readonly bytesMax: number },
): Promise<(string | undefined)[]> {
  return await withFiles(options, async ({ session }) => {
    const texts: (string | undefined)[] = [];
    for (const path of options.paths)
      texts.push((await readFile(session, pathOf(path), options.bytesMax))?.toString());
    return texts;
  });
}

/** `unfinished` has, at any time, what a program that is killed may leave unfinished. */
async function withFiles<T>(
  options: ContainerFilesOptions,
  work: (place: { session: FilesSession } & Pick<ContainerView, "owner" | "mounts">) => Promise<T>,
  unfinished: readonly UnfinishedFile[] = [],
): Promise<T> {
  const settings = resolveSettings(options.settings);
  const { timeoutMs = lookTimeoutMsDefault, stallTimeoutMs = stallTimeoutMsDefault, signal } = options;
  const clock = new CopyClock(`work on files of ${options.id}`, { timeoutMs, stallTimeoutMs, signal });
  try {
    const view = await orAborted(findView(settings.runDir, options.id), clock.signal);
    return await converse(view, clock, work, unfinished);
  } finally {
    clock.stop();
  }
}

async function converse<T>(
  view: ContainerView,
  clock: CopyClock,
  work: (place: { session: FilesSession } & Pick<ContainerView, "owner" | "mounts">) => Promise<T>,
  unfinished: readonly UnfinishedFile[],
): Promise<T> {
  const { owner, mounts } = view;
  const token = randomBytes(8).toString("hex");
  const session = new FilesSession(view.start(token), () => clock.moved());
  const onAbort = () => void session.close();
  clock.signal.addEventListener("abort", onAbort, { once: true });
  try {
    await session.begin(view.hidden);
    return await work({ session, owner, mounts });
  } catch (error) {
    clock.signal.throwIfAborted();
    throw error;
  } finally {
    clock.signal.removeEventListener("abort", onAbort);
    const wasKilled = await session.close();
    if (wasKilled && unfinished.length > 0) await tidyUp(view, token, unfinished);
  }
}

/** Asking a runtime can hang as well. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** As far as that can be done: what hung may hang again. */
async function tidyUp(
  view: ContainerView,
  token: string,
  unfinished: readonly UnfinishedFile[],
): Promise<void> {
  const session = new FilesSession(view.start(token));
  const timer = setTimeout(() => void session.close(), tidyTimeoutMs);
  try {
    await session.begin([]);
    for (const file of unfinished) await removeUnfinished(session, file);
  } catch (error) {
    process.emitWarning(`skim: an unfinished file may be left in the container: ${describeError(error)}`);
  } finally {
    clearTimeout(timer);
    await session.close();
  }
}
