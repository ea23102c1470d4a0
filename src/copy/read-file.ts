/** The bytes of one small file of a container. */
import type { ByteString } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import type { FilesSession } from "./files-session.js";
import { statEntry } from "./look-at-files.js";
import { type TreeWriter, takeTree } from "./take-tree.js";

/** Undefined where there is no regular file, symlinks followed. Throws LIMIT_EXCEEDED where it has more than `bytesMax`, RUNTIME_FAILED. */
export async function readFile(
  session: FilesSession,
  path: ByteString,
  bytesMax: number,
): Promise<Buffer | undefined> {
  const entry = await statEntry(session, path, true);
  if (entry?.kind !== "file") return undefined;
  const pieces: Buffer[] = [];
  const ignore = async () => {};
  const writer: TreeWriter = {
    ...{ makeDirectory: ignore, makeSymlink: ignore, openFile: ignore, closeFile: ignore, dropFile: ignore },
    finish: ignore,
    write: async (bytes) => void pieces.push(Buffer.from(bytes)),
  };
  const { skipped } = await takeTree(session, path, writer, { entriesMax: 1, bytesMax, depthMax: 0 });
  if (skipped[0]) throw new SkimError("RUNTIME_FAILED", `${skipped[0].error}, in the container`);
  return Buffer.concat(pieces);
}
