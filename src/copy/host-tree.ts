/** Files of the host as what is to be put into a container: read when their turn comes, in pieces. */
import { constants } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { SkimError } from "../base/errors.js";
import type { FileToCopy } from "./container-entry.js";
import { frameBytesMax } from "./frames.js";

/**
 * `source` and all below it, to be at `destination`. Symlinks are themselves, but `source` is followed. Devices, FIFOs and sockets are refused: USAGE. Throws
 * LOCAL_IO.
 */
export async function* hostTree(source: Uint8Array, destination: Uint8Array): AsyncGenerator<FileToCopy> {
  yield* walk(Buffer.from(source), Buffer.from(destination), true);
}

async function* walk(source: Buffer, path: Buffer, follow: boolean): AsyncGenerator<FileToCopy> {
  const found = await attempt(source, () =>
    follow ? stat(source, { bigint: true }) : lstat(source, { bigint: true }),
  );
  const mode = Number(found.mode) & 0o7777;
  const mtime = {
    seconds: Number(found.mtimeNs / 1_000_000_000n - (found.mtimeNs % 1_000_000_000n < 0n ? 1n : 0n)),
    nanoseconds: Number(((found.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n),
  };
  if (found.isFile()) {
    yield { path, mode, mtime, content: contentOf(source) };
  } else if (found.isSymbolicLink()) {
    const target = await attempt(source, () => readlink(source, "buffer"));
    yield { path, kind: "symlink", target, mtime };
  } else if (found.isDirectory()) {
    yield { path, kind: "directory", mode };
    const names = await attempt(source, () => readdir(source, { encoding: "buffer" }));
    for (const name of names.sort(Buffer.compare)) yield* walk(below(source, name), below(path, name), false);
  } else {
    throw new SkimError("USAGE", `${source} is a device, a FIFO or a socket, which is not copied`);
  }
}

/** O_NONBLOCK: what has become a FIFO meanwhile must not hang. */
async function* contentOf(file: Buffer): AsyncGenerator<Uint8Array> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    // One buffer for all: a piece is written before the next one is asked for.
    const piece = Buffer.allocUnsafe(frameBytesMax);
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

async function attempt<T>(path: Buffer, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `${path} cannot be read`, { cause });
  }
}
