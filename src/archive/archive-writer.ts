/**
 * Writes archives (FORMAT.md). The same contents give the same bytes, always: nothing here depends on time, place or the
 * order in which layers became ready.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import { byteStringFromText } from "../base/byte-string.js";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import type { Digest } from "../image/digest.js";
import type { Platform } from "../image/platform.js";
import type { LayerIndex } from "../layer/layer-index.js";
import { Compression } from "../native/binding.js";
import type { ImageTree } from "../tree/image-tree.js";
import { accountsBytesMax, encodeAccounts, type ImageAccounts } from "./accounts.js";
import { BytePool, requireSectionBytes } from "./byte-pool.js";
import { decodeIdentity, decodeImage, encodeIdentity, keptWarnings } from "./identity.js";
import {
  type LayerRecord,
  readU64,
  recordBytes,
  type SectionName,
  sectionNames,
  spanAt,
  viewOf,
  writeLayer,
  writeU64,
} from "./records.js";
import { aligned, encodeSectionTable } from "./section-table.js";
import { encodeTree } from "./tree-encoder.js";
import { fileIdentityOf } from "./tree-proof.js";

/** What an archive is made of. */
export interface ArchiveContents {
  /** Complete, as `referenceText` gives it. */
  readonly reference: string;
  readonly platform: Platform;
  readonly manifestDigest: Digest;
  readonly manifestMediaType: string;
  readonly manifestBytes: Uint8Array;
  readonly configBytes: Uint8Array;
  readonly spanBytes: number;
  /** One a layer of the manifest, base layer first. Layers with the same digest share their spans. */
  readonly layers: readonly ArchiveContentsLayer[];
  readonly tree: ImageTree;
  /** Of all rooms, in an order that does not depend on chance. More than about 1000 are counted, not kept. */
  readonly warnings: readonly string[];
}

export interface ArchiveContentsLayer {
  readonly descriptorMediaType: string;
  readonly index: LayerIndex;
}

/** A section's bytes in pieces, so that windows, the bulk of an archive, are not copied together. */
type SectionParts = readonly Uint8Array[];

/** write(2) takes at most 2 GiB at once; this much also lets an abort through. */
const writeBytesMax = 64 * 1024 * 1024;

/** The sections of an archive, encoded but not put together yet. */
export type EncodedArchive = Readonly<Partial<Record<SectionName, SectionParts>>>;

/**
 * Encodes the sections of an archive; some are views of `contents`.
 * Throws LIMIT_EXCEEDED where the image is larger than the format, LAYER_UNSUPPORTED for names that no filesystem has.
 */
export function encodeArchive(contents: ArchiveContents): EncodedArchive {
  const identity = encodeIdentity({ ...contents, warnings: keptWarnings(contents.warnings) });
  checkImage(contents, identity);
  const names = new BytePool("names");
  const layers = encodeLayers(contents.layers, names);
  const layerBytes = contents.layers.map((layer) => layer.index.uncompressedBytes);
  const tree = encodeTree(contents.tree.root, names, layerBytes);
  return {
    identity: [identity],
    manifest: [contents.manifestBytes],
    config: [contents.configBytes],
    layers: [layers.layers],
    spans: layers.spans,
    windows: layers.windows,
    inodes: [tree.inodes],
    dirents: [tree.dirents],
    names: [names.finish()],
    extents: [tree.extents],
    xattrs: [tree.xattrs],
    xattrValues: [tree.xattrValues],
  };
}

/** The archive with a start set: indexes of spans, none twice, in the order of need. */
export function withStartSpans(archive: EncodedArchive, spans: readonly number[]): EncodedArchive {
  const bytes = Buffer.alloc(spans.length * recordBytes.startSpans);
  const view = viewOf(bytes);
  spans.forEach((span, i) => {
    view.setUint32(i * recordBytes.startSpans, span, true);
  });
  return { ...archive, startSpans: [bytes] };
}

/** The archive with what says who its containers run as; without it where that is more than the section may have. */
export function withAccounts(archive: EncodedArchive, accounts: ImageAccounts): EncodedArchive {
  const bytes = encodeAccounts(accounts);
  return bytes.length > accountsBytesMax ? archive : { ...archive, accounts: [bytes] };
}

/** The bytes of an archive, in pieces; most are the sections' own. Throws LIMIT_EXCEEDED. */
export function archivePieces(archive: EncodedArchive): Uint8Array[] {
  const sections = sectionNames.flatMap((name) => {
    const parts = archive[name];
    if (!parts) return [];
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    requireSectionBytes(name, length);
    return [{ name, parts, length, crc: crcOf(parts) }];
  });
  const pieces: Uint8Array[] = [encodeSectionTable(sections).bytes];
  for (const { parts, length } of sections) pieces.push(...parts, new Uint8Array(aligned(length) - length));
  return pieces.filter((piece) => piece.length > 0);
}

/**
 * Writes an archive to `file`, replacing what is there: beside it first, synced, then renamed, so that `file` is at every moment
 * either what it was or complete. Resolves when it would survive a power cut, with what a TreeProof knows the file by. On failure nothing is left behind.
 * Throws as `archivePieces`, and LOCAL_IO.
 */
export async function writeArchive(
  file: string,
  archive: EncodedArchive,
  options: { signal?: AbortSignal } = {},
): Promise<{ archiveBytes: number; fileIdentity: string }> {
  const pieces = archivePieces(archive);
  const directory = path.dirname(path.resolve(file));
  // Of its own length, not the file's: a name of 255 bytes has no room for a suffix.
  const temporary = path.join(directory, `.skim-${process.pid}-${randomBytes(8).toString("hex")}.tmp`);
  try {
    const handle = await open(temporary, "wx");
    let fileIdentity: string;
    try {
      await writePieces(handle, pieces, options.signal);
      await handle.sync();
      options.signal?.throwIfAborted();
      await rename(temporary, file);
      // By the handle, as somebody else may put another file there; and now, as renaming is a change.
      fileIdentity = fileIdentityOf(await handle.stat({ bigint: true }));
    } finally {
      await handle.close();
    }
    await syncDirectory(directory);
    return { archiveBytes: pieces.reduce((sum, piece) => sum + piece.length, 0), fileIdentity };
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    options.signal?.throwIfAborted();
    throw new SkimError("LOCAL_IO", `archive ${file} could not be written`, { cause });
  }
}

function crcOf(parts: SectionParts): number {
  // An empty part has no address, and zlib's crc32 takes that for "start anew".
  return parts.reduce((crc, part) => (part.length === 0 ? crc : crc32(part, crc)), 0);
}

/** The reader would refuse an archive whose identity, manifest and config do not fit; so whoever puts one together made a mistake. */
function checkImage(contents: ArchiveContents, identity: Buffer): void {
  const refuse = (section: string, _record: number | undefined, found: string) =>
    new SkimError(
      "INTERNAL",
      `skim is broken here: an archive was to be written with a wrong ${section}: ${found}; please report it`,
    );
  decodeIdentity(identity, refuse);
  const { manifest } = decodeImage(contents, contents.manifestBytes, contents.configBytes, refuse);
  invariant(
    manifest.layers.length === contents.layers.length,
    "an archive gets one layer index a layer of the manifest",
  );
  contents.layers.forEach(({ index, descriptorMediaType }, i) => {
    const descriptor = manifest.layers[i]!;
    invariant(
      descriptor.digest === index.digest &&
        descriptor.size === index.compressedBytes &&
        descriptor.mediaType === descriptorMediaType,
      `layer ${i} of an archive is layer ${i} of the manifest`,
    );
  });
}

function encodeLayers(
  layers: readonly ArchiveContentsLayer[],
  names: BytePool,
): { layers: Uint8Array; spans: SectionParts; windows: SectionParts } {
  const records = Buffer.alloc(layers.length * recordBytes.layers);
  const view = viewOf(records);
  const spans: Uint8Array[] = [];
  const windows: Uint8Array[] = [];
  const rangeOfDigest = new Map<Digest, Pick<LayerRecord, "spanFirst" | "spanCount">>();
  let spanEnd = 0;
  let windowsEnd = 0;
  layers.forEach(({ descriptorMediaType, index }, i) => {
    const mediaType = byteStringFromText(descriptorMediaType);
    if (mediaType.length > 0xffff || mediaType.includes("\0")) {
      throw new SkimError(
        "IMAGE_INVALID",
        `layer ${i} (${index.digest}) has a media type that is none: ${mediaType.length} bytes long, or with a NUL`,
      );
    }
    let range = rangeOfDigest.get(index.digest);
    if (range === undefined) {
      range = { spanFirst: spanEnd, spanCount: index.spanRecords.length / recordBytes.spans };
      invariant(Number.isInteger(range.spanCount), "a layer index has whole span records");
      rangeOfDigest.set(index.digest, range);
      spans.push(withWindowsFrom(windowsEnd, index.spanRecords));
      windows.push(index.windows);
      spanEnd += range.spanCount;
      windowsEnd += index.windows.length;
    }
    writeLayer(view, i * recordBytes.layers, {
      digestOffset: names.offsetOf(byteStringFromText(index.digest)),
      diffIdOffset: names.offsetOf(byteStringFromText(index.diffId)),
      mediaTypeOffset: names.offsetOf(mediaType),
      digestLength: index.digest.length,
      diffIdLength: index.diffId.length,
      mediaTypeLength: mediaType.length,
      compression: Compression[index.compression],
      ...range,
      compressedBytes: index.compressedBytes,
      uncompressedBytes: index.uncompressedBytes,
    });
  });
  return { layers: records, spans, windows };
}

/** A layer's span records with their windows counted from the start of the section. */
function withWindowsFrom(windowsStart: number, spanRecords: Uint8Array): Uint8Array {
  const moved = Buffer.from(spanRecords);
  const view = viewOf(moved);
  for (let at = 0; at < moved.length; at += recordBytes.spans) {
    if (view.getUint32(at + spanAt.windowStored, true) === 0) continue;
    writeU64(view, at + spanAt.windowOffset, readU64(view, at + spanAt.windowOffset) + windowsStart);
  }
  return moved;
}

async function writePieces(
  handle: FileHandle,
  pieces: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const piece of pieces) {
    for (let written = 0; written < piece.length; ) {
      signal?.throwIfAborted();
      const length = Math.min(piece.length - written, writeBytesMax);
      written += (await handle.write(piece, written, length)).bytesWritten;
    }
  }
}

/** Makes a rename in it durable. Filesystems that cannot sync a directory say EINVAL. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } catch (error) {
    if (systemErrorCode(error) !== "EINVAL") throw error;
  } finally {
    await handle.close();
  }
}
