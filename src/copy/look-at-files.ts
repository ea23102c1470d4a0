/** One entry of a container, those of a directory, and removing: what is not copying. */
import { type ByteString, bytesOf } from "../base/byte-string.js";
import type { ContainerEntry } from "./container-entry.js";
import { type FilesSession, readEntry, requestOf } from "./files-session.js";
import { brokenProtocol, Payload } from "./frames.js";
import { refusal } from "./take-tree.js";

/** What is at `path`; `follow`: where a symlink there leads. Undefined where there is nothing. Throws RUNTIME_FAILED. */
export async function statEntry(
  session: FilesSession,
  path: ByteString,
  follow: boolean,
): Promise<ContainerEntry | undefined> {
  await session.write("S", requestOf(follow, path));
  const { entries, error } = await collect(session, path, 1);
  if (error?.code === "NOT_FOUND") return undefined;
  if (error) throw error;
  const [entry] = entries;
  if (!entry) throw brokenProtocol("no entry");
  return entry;
}

/** Entries of the directory at `path`, sorted by name. Throws NOT_FOUND, LIMIT_EXCEEDED, RUNTIME_FAILED. */
export async function listEntries(
  session: FilesSession,
  path: ByteString,
  entriesMax: number,
): Promise<ContainerEntry[]> {
  await session.write("L", new Payload().i64(entriesMax).rest(bytesOf(path)).encode());
  const { entries, error } = await collect(session, path, entriesMax);
  if (error) throw error;
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Removes what is at `path`, a symlink itself. Throws NOT_FOUND, RUNTIME_FAILED (a directory that is not empty, a mount). */
export async function removeEntry(
  session: FilesSession,
  path: ByteString,
  recursive: boolean,
): Promise<void> {
  await session.write("R", requestOf(recursive, path));
  const outcome = await session.outcome();
  if (outcome.errno !== 0) throw refusal(path, outcome);
}

async function collect(session: FilesSession, path: ByteString, entriesMax: number) {
  const entries: ContainerEntry[] = [];
  const answers = session.answers();
  for (;;) {
    const next = await answers.next();
    if (next.done) return { entries, error: next.value.errno === 0 ? undefined : refusal(path, next.value) };
    if (next.value.type !== "e") throw brokenProtocol(`a frame of type ${JSON.stringify(next.value.type)}`);
    if (entries.length === entriesMax) throw brokenProtocol("more entries than were asked for");
    entries.push(readEntry(next.value));
  }
}
