/** One entry of a container, those of a directory, and removing: what is not copying. */
import { type ByteString, bytesOf, displayText } from "../base/byte-string.js";
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
  if (entry?.path !== "") throw brokenProtocol("no entry of that path");
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
  const other = entries.find((entry) => entry.path === "" || entry.path.includes("/"));
  if (other) throw brokenProtocol(`an entry at ${displayText(other.path)}`);
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

/** Of names and targets in a list together: far above what a directory has, and below what memory has. */
const listBytesMax = 128 * 2 ** 20;

async function collect(session: FilesSession, path: ByteString, entriesMax: number) {
  const entries: ContainerEntry[] = [];
  const answers = session.answers();
  let bytes = 0;
  for (;;) {
    const next = await answers.next();
    if (next.done) return { entries, error: next.value.errno === 0 ? undefined : refusal(path, next.value) };
    if (next.value.type !== "e") throw brokenProtocol(`a frame of type ${JSON.stringify(next.value.type)}`);
    if (entries.length === entriesMax) throw brokenProtocol("more entries than were asked for");
    const entry = readEntry(next.value);
    bytes += entry.path.length + entry.target.length;
    if (bytes > listBytesMax) throw brokenProtocol(`names of more than ${listBytesMax} bytes`);
    entries.push(entry);
  }
}
