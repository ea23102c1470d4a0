/** Files of the host as what is to be put into a container: read when their turn comes, in pieces. */
import { type BigIntStats, constants } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { byteStringOf, displayText } from "../base/byte-string.js";
import { describeError } from "../base/errors.js";
import type { FileToCopy } from "./container-entry.js";
import { frameBytesMax } from "./frames.js";

/**
 * `source` and all below it, to be at `destination`. Symlinks are themselves, but `source` is followed. What cannot be read, and devices, FIFOs and sockets, come
 * with their error. Never throws.
 */
export async function* hostTree(source: Uint8Array, destination: Uint8Array): AsyncGenerator<FileToCopy> {
  yield* walk(Buffer.from(source), Buffer.from(destination), true);
}

async function* walk(source: Buffer, path: Buffer, isTop: boolean): AsyncGenerator<FileToCopy> {
  let names: Buffer[];
  try {
    const found = await (isTop ? stat(source, { bigint: true }) : lstat(source, { bigint: true }));
    yield await fileOf(source, path, found, isTop);
    if (!found.isDirectory()) return;
    names = await readdir(source, { encoding: "buffer" });
  } catch (cause) {
    yield { path, error: cannotRead(source, cause) };
    return;
  }
  for (const name of names.sort(Buffer.compare)) yield* walk(below(source, name), below(path, name), false);
}

async function fileOf(source: Buffer, path: Buffer, found: BigIntStats, isTop: boolean): Promise<FileToCopy> {
  const mode = Number(found.mode) & 0o7777;
  const nanoseconds = ((found.mtimeNs % billion) + billion) % billion;
  const mtime = {
    seconds: Number((found.mtimeNs - nanoseconds) / billion),
    nanoseconds: Number(nanoseconds),
  };
  if (found.isFile()) return { path, mode, mtime, content: contentOf(source, isTop) };
  if (found.isDirectory()) return { path, kind: "directory", mode };
  if (found.isSymbolicLink())
    return { path, kind: "symlink", target: await readlink(source, "buffer"), mtime };
  return { path, error: notCopied(source) };
}

const billion = 1_000_000_000n;

/** O_NONBLOCK: what has become a FIFO meanwhile must not hang. Nor is a symlink followed that was not one. */
async function* contentOf(file: Buffer, isTop: boolean): AsyncGenerator<Uint8Array> {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | (isTop ? 0 : constants.O_NOFOLLOW);
  const handle = await open(file, flags).catch((cause: unknown) => {
    throw new Error(cannotRead(file, cause));
  });
  try {
    if (!(await handle.stat()).isFile()) throw new Error(notCopied(file));
    // One buffer for all: a piece is written before the next one is asked for.
    const piece = Buffer.allocUnsafeSlow(frameBytesMax);
    for (;;) {
      const { bytesRead } = await handle.read(piece, 0, piece.byteLength);
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

export function below(directory: Uint8Array, name: Uint8Array): Buffer {
  return Buffer.concat([directory, Buffer.from("/"), name]);
}

function cannotRead(file: Buffer, cause: unknown): string {
  return `${displayText(byteStringOf(file))} cannot be read: ${describeError(cause)}`;
}

function notCopied(file: Buffer): string {
  return `${displayText(byteStringOf(file))} is a device, a FIFO or a socket, which is not copied`;
}
