import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import type { ByteRange } from "../base/byte-range.js";
import { isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { type Digest, digestAlgorithm, digestHex } from "../image/digest.js";
import {
  type Descriptor,
  type ImageIndex,
  parseJsonObject,
  parseManifestOrIndex,
} from "../image/manifest.js";
import { mediaTypes } from "../image/media-types.js";

/**
 * The files of an OCI layout directory (image spec, "Image Layout"): `oci-layout`, `index.json`, `blobs/ALGORITHM/HEX`. Used by the source
 * that reads images from one and by the registry that serves one. Paths are made of checked digests only, so that none
 * leads out of the directory.
 */

const refNameAnnotation = "org.opencontainers.image.ref.name";
/** containerd's export writes the whole name here. */
const containerdNameAnnotation = "io.containerd.image.name";
/** `oci-layout` is a version and nothing else. */
const layoutFileBytesMax = 64 * 1024;
/** Bytes of one read of a blob: large enough for a disk, small enough to pass on. */
const pieceBytes = 1024 * 1024;

export interface OpenBlob {
  readonly size: number;
  /**
   * The bytes of `range` in pieces, each in a buffer of its own, or in `room`, where it lasts until the next is asked for. Throws IMAGE_INVALID where the file has
   * become shorter.
   */
  pieces(range: ByteRange, room?: Buffer): AsyncGenerator<Buffer, void, undefined>;
  close(): Promise<void>;
}

export class OciLayout {
  readonly directory: string;
  readonly #followLinks: boolean;

  /**
   * `followLinks`: blobs may be symbolic links, as build systems make them. Not for a layout that is served to others: a link would
   * publish whatever file it names.
   */
  constructor(directory: string, options: { followLinks: boolean }) {
    this.directory = directory;
    this.#followLinks = options.followLinks;
  }

  /** index.json as it is now. Throws NOT_FOUND where there is no such directory, IMAGE_INVALID where it is no layout. */
  async imageIndex(): Promise<ImageIndex> {
    const version = await this.#file("oci-layout", layoutFileBytesMax);
    const where = path.join(this.directory, "oci-layout");
    const { imageLayoutVersion } = parseJsonObject(version, where);
    if (typeof imageLayoutVersion !== "string" || !imageLayoutVersion.startsWith("1.")) {
      throw new SkimError(
        "IMAGE_INVALID",
        `${where}: version ${JSON.stringify(imageLayoutVersion)}; skim reads 1.x`,
      );
    }
    const bytes = await this.#file("index.json", limits.manifestBytesMax);
    const parsed = parseManifestOrIndex(
      bytes,
      mediaTypes.ociImageIndex,
      path.join(this.directory, "index.json"),
    );
    if (parsed.kind === "index") return parsed.index;
    throw new SkimError(
      "IMAGE_INVALID",
      `${this.directory}/index.json: a manifest where an image index belongs`,
    );
  }

  /** Opens a blob for reading; the caller closes it. Throws NOT_FOUND, IMAGE_INVALID (no regular file) or LOCAL_IO. */
  async openBlob(digest: Digest): Promise<OpenBlob> {
    const file = path.join(this.directory, "blobs", digestAlgorithm(digest), digestHex(digest));
    const what = `blob ${digest} of ${this.directory}`;
    // O_NONBLOCK: opening a FIFO must not wait for somebody to write to it.
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | (this.#followLinks ? 0 : constants.O_NOFOLLOW);
    const { handle, size } = await openRegular(file, flags, what);
    return {
      size,
      pieces: (range, room) => readPieces(handle, range, what, room),
      close: () => handle.close(),
    };
  }

  /** All bytes of a blob. Throws LIMIT_EXCEEDED beyond `bytesMax`. */
  async smallBlob(digest: Digest, bytesMax: number): Promise<Buffer> {
    const blob = await this.openBlob(digest);
    try {
      return await readAll(blob, bytesMax, `blob ${digest} of ${this.directory}`);
    } finally {
      await blob.close();
    }
  }

  async #file(name: string, bytesMax: number): Promise<Buffer> {
    const file = path.join(this.directory, name);
    try {
      const { handle, size } = await openRegular(file, constants.O_RDONLY | constants.O_NONBLOCK, file);
      try {
        return await readAll({ size, pieces: (range) => readPieces(handle, range, file) }, bytesMax, file);
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (!isSkimError(error, "NOT_FOUND")) throw error;
      const missing = `${this.directory}: no OCI layout there, ${name} is missing`;
      throw new SkimError("NOT_FOUND", missing, { cause: error });
    }
  }
}

/** The entries of a layout's index.json that `tag` names, in the manner of whoever wrote it. */
export function entriesTagged(index: ImageIndex, tag: string): Descriptor[] {
  const annotated = (entry: Descriptor, name: string) => entry.annotations?.[name] ?? "";
  const exact = index.manifests.filter((entry) => annotated(entry, refNameAnnotation) === tag);
  if (exact.length > 0) return exact;
  return index.manifests.filter((entry) =>
    [containerdNameAnnotation, refNameAnnotation].some((name) => annotated(entry, name).endsWith(`:${tag}`)),
  );
}

/** The tags of a layout, sorted, each once. */
export function layoutTags(index: ImageIndex): string[] {
  const tags = index.manifests.flatMap((entry) => {
    const name = entry.annotations?.[refNameAnnotation] ?? entry.annotations?.[containerdNameAnnotation];
    return name ? [name.slice(name.lastIndexOf(":") + 1)] : [];
  });
  return [...new Set(tags)].sort();
}

/** Opens a regular file; anything else is closed again and refused. */
async function openRegular(
  file: string,
  flags: number,
  what: string,
): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle;
  try {
    handle = await open(file, flags);
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new SkimError("NOT_FOUND", `${what}: not found`, { cause });
    }
    if (code === "ELOOP") {
      throw new SkimError("IMAGE_INVALID", `${what}: a symbolic link, which is not followed here`, { cause });
    }
    throw new SkimError("LOCAL_IO", `${what}: cannot be opened: ${code}`, { cause });
  }
  const stat = await handle.stat().catch(() => undefined);
  if (stat?.isFile()) return { handle, size: stat.size };
  await handle.close();
  throw new SkimError("IMAGE_INVALID", `${what}: not a regular file`);
}

async function* readPieces(
  handle: FileHandle,
  range: ByteRange,
  what: string,
  room?: Buffer,
): AsyncGenerator<Buffer, void, undefined> {
  for (let at = range.start; at < range.end; ) {
    const buffer =
      room?.subarray(0, range.end - at) ?? Buffer.allocUnsafeSlow(Math.min(pieceBytes, range.end - at));
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(buffer, 0, buffer.length, at));
    } catch (cause) {
      throw new SkimError("LOCAL_IO", `${what}: cannot be read at ${at}: ${systemErrorCode(cause)}`, {
        cause,
      });
    }
    if (bytesRead === 0) throw new SkimError("IMAGE_INVALID", `${what}: ends at ${at}, before ${range.end}`);
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function readAll(
  blob: Pick<OpenBlob, "size" | "pieces">,
  bytesMax: number,
  what: string,
): Promise<Buffer> {
  if (blob.size > bytesMax) {
    throw new SkimError(
      "LIMIT_EXCEEDED",
      `${what}: ${blob.size} bytes, more than the ${bytesMax} that skim reads`,
    );
  }
  const pieces: Buffer[] = [];
  for await (const piece of blob.pieces({ start: 0, end: blob.size })) pieces.push(piece);
  return Buffer.concat(pieces);
}
