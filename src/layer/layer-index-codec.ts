import { createHash } from "node:crypto";
import type { ByteString } from "../base/byte-string.js";
import { invariant } from "../base/errors.js";
import type { DiffId, Digest } from "../image/digest.js";
import type { CompressionName } from "../native/binding.js";
import type { EntryType, LayerEntry, LayerExtent, LayerIndex, Xattr } from "./layer-index.js";

/**
 * A layer index as bytes:
 *
 * ```
 * magic and version     8 bytes
 * length of the head    u32 LE
 * head                  JSON: what the layer is, and the lengths of what follows
 * spanRecords, windows  as they are
 * entries               one after the other, see `encodeEntry`
 * sha256                32 bytes, of everything before it
 * ```
 *
 * Entries are numbers of seven bits a byte and strings behind their length: a fifth of the size of JSON, and of the time.
 * The same index gives the same bytes. Nothing but the sha256 guards against damage: whoever can write the file can write the hash.
 */
export const layerIndexFormat = 2;

const MAGIC = Buffer.from("SKIMLYR\n");
const HASH_BYTES = 32;
/** Entries are encoded into chunks of this size, or larger where one entry needs it. */
const CHUNK_BYTES = 1024 * 1024;
/** More than the numbers of an entry take: 14 of at most 8 bytes. */
const ENTRY_NUMBERS_BYTES_MAX = 128;
/** Three numbers of at most 8 bytes. */
const LIST_ITEM_NUMBERS_BYTES_MAX = 24;

interface Head {
  readonly format: number;
  readonly spanBytes: number;
  readonly digest: Digest;
  readonly diffId: DiffId;
  readonly compression: CompressionName;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  readonly trailingBytes: number;
  readonly warnings: readonly string[];
  readonly spanRecordsBytes: number;
  readonly windowsBytes: number;
  readonly entries: number;
}

const entryTypes = [
  "file",
  "directory",
  "symlink",
  "hardlink",
  "character",
  "block",
  "fifo",
] as const satisfies EntryType[];
const typeNumbers = new Map<EntryType, number>(entryTypes.map((type, number) => [type, number]));

// The first byte of an entry: its type in the lowest three bits, and these.
const NEGATIVE_TIME = 8;
const HAS_XATTRS = 16;
/** One extent from the start to the end of the file: what all but sparse files have. */
const WHOLE_EXTENT = 32;
const OTHER_EXTENTS = 64;

/** The index as chunks of bytes, to be written one after the other. */
export function encodeLayerIndex(index: LayerIndex, spanBytes: number): Uint8Array[] {
  const head: Head = {
    format: layerIndexFormat,
    spanBytes,
    digest: index.digest,
    diffId: index.diffId,
    compression: index.compression,
    compressedBytes: index.compressedBytes,
    uncompressedBytes: index.uncompressedBytes,
    trailingBytes: index.trailingBytes,
    warnings: index.warnings,
    spanRecordsBytes: index.spanRecords.length,
    windowsBytes: index.windows.length,
    entries: index.entries.length,
  };
  const headBytes = Buffer.from(JSON.stringify(head));
  const headLength = Buffer.alloc(4);
  headLength.writeUInt32LE(headBytes.length);
  const writer = new EntryWriter();
  for (const entry of index.entries) writer.write(entry);
  const chunks = [MAGIC, headLength, headBytes, index.spanRecords, index.windows, ...writer.finish()];
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return [...chunks, hash.digest()];
}

/** The index in `file`; undefined where it is damaged, of another format, or not of this digest and span size. */
export function decodeLayerIndex(file: Buffer, digest: Digest, spanBytes: number): LayerIndex | undefined {
  const end = file.length - HASH_BYTES;
  if (end < MAGIC.length + 4 || !file.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const sha256 = createHash("sha256").update(file.subarray(0, end)).digest();
  if (!sha256.equals(file.subarray(end))) return undefined;
  const headStart = MAGIC.length + 4;
  const headEnd = headStart + file.readUInt32LE(MAGIC.length);
  const head = JSON.parse(file.toString("utf8", headStart, headEnd)) as Head;
  if (head.format !== layerIndexFormat || head.digest !== digest || head.spanBytes !== spanBytes) {
    return undefined;
  }
  const windowsStart = headEnd + head.spanRecordsBytes;
  const entriesStart = windowsStart + head.windowsBytes;
  const reader = new EntryReader(file, entriesStart);
  const entries: LayerEntry[] = [];
  for (let i = 0; i < head.entries; i++) entries.push(reader.read());
  if (reader.at !== end) return undefined;
  return {
    digest,
    diffId: head.diffId,
    compression: head.compression,
    compressedBytes: head.compressedBytes,
    uncompressedBytes: head.uncompressedBytes,
    trailingBytes: head.trailingBytes,
    // Copies: they would keep the whole file in memory.
    spanRecords: new Uint8Array(file.subarray(headEnd, windowsStart)),
    windows: new Uint8Array(file.subarray(windowsStart, entriesStart)),
    entries,
    warnings: head.warnings,
  };
}

class EntryWriter {
  readonly #chunks: Buffer[] = [];
  #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #at = 0;

  write(entry: LayerEntry): void {
    const { type, fileBytes, xattrs, extents } = entry;
    this.#makeRoom(entry);
    const first = extents[0];
    const whole =
      extents.length === 1 && first!.fileOffset === 0 && first!.length === fileBytes && fileBytes > 0;
    this.#chunk[this.#at++] =
      typeNumbers.get(type)! |
      (entry.mtimeSec < 0 ? NEGATIVE_TIME : 0) |
      (xattrs.length > 0 ? HAS_XATTRS : 0) |
      (whole ? WHOLE_EXTENT : extents.length > 0 ? OTHER_EXTENTS : 0);
    this.#text(entry.path);
    this.#number(entry.mode);
    this.#number(entry.uid);
    this.#number(entry.gid);
    this.#number(Math.abs(entry.mtimeSec));
    this.#number(entry.mtimeNsec);
    if (type === "file") this.#number(fileBytes);
    else if (type === "symlink" || type === "hardlink") this.#text(entry.linkTarget);
    else if (type === "character" || type === "block") {
      this.#number(entry.deviceMajor);
      this.#number(entry.deviceMinor);
    }
    if (xattrs.length > 0) {
      this.#number(xattrs.length);
      for (const { name, value } of xattrs) {
        this.#text(name);
        this.#text(value);
      }
    }
    if (whole) {
      this.#number(first!.layerOffset);
    } else if (extents.length > 0) {
      this.#number(extents.length);
      for (const { fileOffset, layerOffset, length } of extents) {
        this.#number(fileOffset);
        this.#number(layerOffset);
        this.#number(length);
      }
    }
  }

  finish(): Buffer[] {
    this.#chunks.push(this.#chunk.subarray(0, this.#at));
    return this.#chunks;
  }

  #makeRoom({ path, linkTarget, xattrs, extents }: LayerEntry): void {
    let bytes = ENTRY_NUMBERS_BYTES_MAX + path.length + linkTarget.length;
    for (const { name, value } of xattrs) bytes += LIST_ITEM_NUMBERS_BYTES_MAX + name.length + value.length;
    bytes += LIST_ITEM_NUMBERS_BYTES_MAX * extents.length;
    if (this.#at + bytes <= this.#chunk.length) return;
    this.#chunks.push(this.#chunk.subarray(0, this.#at));
    this.#chunk = Buffer.allocUnsafe(Math.max(CHUNK_BYTES, bytes));
    this.#at = 0;
  }

  /** Seven bits a byte, the lowest first; the top bit says that more follow. */
  #number(value: number): void {
    let rest = value;
    // Above 31 bits, integer operators do not reach.
    while (rest > 0x7fffffff) {
      this.#chunk[this.#at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.#chunk[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#chunk[this.#at++] = rest;
  }

  #text(text: ByteString): void {
    this.#number(text.length);
    this.#at += this.#chunk.write(text, this.#at, "latin1");
  }
}

const noXattrs: readonly Xattr[] = Object.freeze([]);
const noExtents: readonly LayerExtent[] = Object.freeze([]);
const noText = "" as ByteString;

class EntryReader {
  constructor(
    readonly bytes: Buffer,
    public at: number,
  ) {}

  read(): LayerEntry {
    const first = this.#byte();
    const type = entryTypes[first & 7];
    invariant(type !== undefined, "a layer index whose sha256 is right has entries of known types");
    const path = this.#text();
    const mode = this.#number();
    const uid = this.#number();
    const gid = this.#number();
    const seconds = this.#number();
    const mtimeNsec = this.#number();
    const isDevice = type === "character" || type === "block";
    const fileBytes = type === "file" ? this.#number() : 0;
    const linkTarget = type === "symlink" || type === "hardlink" ? this.#text() : noText;
    const deviceMajor = isDevice ? this.#number() : 0;
    const deviceMinor = isDevice ? this.#number() : 0;
    const xattrs = (first & HAS_XATTRS) !== 0 ? this.#xattrs() : noXattrs;
    const extents =
      (first & WHOLE_EXTENT) !== 0
        ? [{ fileOffset: 0, layerOffset: this.#number(), length: fileBytes }]
        : (first & OTHER_EXTENTS) !== 0
          ? this.#extents()
          : noExtents;
    return {
      path,
      type,
      mode,
      uid,
      gid,
      fileBytes,
      mtimeSec: (first & NEGATIVE_TIME) !== 0 ? -seconds : seconds,
      mtimeNsec,
      linkTarget,
      deviceMajor,
      deviceMinor,
      xattrs,
      extents,
    };
  }

  #xattrs(): Xattr[] {
    return Array.from({ length: this.#number() }, () => ({ name: this.#text(), value: this.#text() }));
  }

  #extents(): LayerExtent[] {
    return Array.from({ length: this.#number() }, () => ({
      fileOffset: this.#number(),
      layerOffset: this.#number(),
      length: this.#number(),
    }));
  }

  #byte(): number {
    const byte = this.bytes[this.at++];
    invariant(byte !== undefined, "a layer index whose sha256 is right is whole");
    return byte;
  }

  #number(): number {
    let byte = this.#byte();
    let value = byte & 127;
    for (let scale = 128; byte > 127; scale *= 128) {
      byte = this.#byte();
      value += (byte & 127) * scale;
    }
    return value;
  }

  #text(): ByteString {
    const length = this.#number();
    this.at += length;
    return this.bytes.toString("latin1", this.at - length, this.at) as ByteString;
  }
}
