/** Synthetic trees as tar files: written once, extracted on ext4 and, as a layer, indexed by skim. */
import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { padded, tarEnd, tarMember } from "../../test/support/tar-builder.js";

/** A file of a synthetic directory tree. */
export const filesPerDirectory = 1000;

/** Pieces to be written are gathered to about this: half a million writes of 512 bytes take seconds. */
const pieceBytes = 1024 * 1024;

/** `files` empty files, a thousand in a directory: dir000/file000 and so on. Metadata is all that counts. */
export function* emptyFiles(files: number): Generator<Buffer> {
  for (let made = 0; made < files; made++) {
    const directory = `dir${String(Math.floor(made / filesPerDirectory)).padStart(3, "0")}`;
    if (made % filesPerDirectory === 0) yield tarMember({ path: `${directory}/` });
    yield tarMember({ path: `${directory}/${emptyFileName(made % filesPerDirectory)}` });
  }
  yield tarEnd;
}

/** The path of the last file of `emptyFiles(files)`. */
export function lastEmptyFile(files: number): string {
  const last = files - 1;
  const directory = `dir${String(Math.floor(last / filesPerDirectory)).padStart(3, "0")}`;
  return `${directory}/${emptyFileName(last % filesPerDirectory)}`;
}

function emptyFileName(position: number): string {
  return `file${String(position).padStart(3, "0")}`;
}

/** One file of random bytes, so that nothing on the way can make less of them. */
export function* randomFile(name: string, bytes: number): Generator<Buffer> {
  yield tarMember({ path: name, size: bytes });
  for (let at = 0; at < bytes; at += pieceBytes)
    yield padded(randomFillSync(Buffer.allocUnsafe(Math.min(pieceBytes, bytes - at))));
  yield tarEnd;
}

/** One empty file with an extended attribute. */
export function* fileWithXattr(path: string): Generator<Buffer> {
  yield tarMember({ path, xattrs: { "user.skim.bench": "1" } });
  yield tarEnd;
}

export interface WrittenTar {
  readonly file: string;
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

export async function writeTar(
  file: string,
  members: Iterable<Buffer>,
  signal: AbortSignal,
): Promise<WrittenTar> {
  const hash = createHash("sha256");
  const stream = createWriteStream(file, { signal });
  let bytes = 0;
  const put = async (piece: Buffer) => {
    hash.update(piece);
    bytes += piece.length;
    if (!stream.write(piece)) await once(stream, "drain", { signal });
  };
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for (const member of members) {
    pending.push(member);
    pendingBytes += member.length;
    if (pendingBytes < pieceBytes) continue;
    await put(Buffer.concat(pending));
    pending = [];
    pendingBytes = 0;
  }
  await put(Buffer.concat(pending));
  stream.end();
  await finished(stream);
  return { file, bytes, sha256: hash.digest("hex") };
}
