import { createHash } from "node:crypto";
import { deflateRawSync } from "node:zlib";
import {
  type ArchiveContents,
  archivePieces,
  encodeArchive,
  withStartSpans,
} from "../../src/archive/archive-writer.js";
import { type ByteString, byteStringFromText } from "../../src/base/byte-string.js";
import { digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import type { LayerExtent, LayerIndex, Xattr } from "../../src/layer/layer-index.js";
import type { CompressionName } from "../../src/native/binding.js";
import type { NodeType, TreeNode } from "../../src/tree/image-tree.js";

/** Bytes as a name: one character each, also those that are no text. */
export const raw = (text: string) => text as ByteString;

export function node(type: NodeType, fields: Partial<TreeNode> = {}): TreeNode {
  return {
    type,
    mode: type === "directory" ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtimeSec: 1_700_000_000,
    mtimeNsec: 0,
    fileBytes: 0,
    linkTarget: raw(""),
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    layer: 0,
    extents: [],
    children: type === "directory" ? new Map() : undefined,
    ...fields,
  };
}

export function directory(children: Record<string, TreeNode> = {}, fields: Partial<TreeNode> = {}): TreeNode {
  return node("directory", {
    children: new Map(Object.entries(children) as Array<[ByteString, TreeNode]>),
    ...fields,
  });
}

/** A file whose bytes are one extent of a layer, or none where it is empty. */
export function file(layerOffset: number, length: number, fields: Partial<TreeNode> = {}): TreeNode {
  const extents: LayerExtent[] = length > 0 ? [{ fileOffset: 0, layerOffset, length }] : [];
  return node("file", { fileBytes: length, extents, ...fields });
}

export const symlink = (target: string) => node("symlink", { mode: 0o777, linkTarget: raw(target) });

export const xattr = (name: string, value: string): Xattr => ({ name: raw(name), value: raw(value) });

/** What a span of a layer in a test is like; its uncompressed bytes follow those of the span before. */
export interface SpanShape {
  readonly length: number;
  readonly restart?: 0 | 1 | 2;
  readonly startBit?: number;
  readonly compressedStart: number;
  readonly compressedEnd: number;
  /** History before the span; stored deflated. */
  readonly window?: Uint8Array;
}

/** A layer index of these spans; its digest is made of `name`. Offsets as in FORMAT.md, written here once more on purpose. */
export function layerIndex(
  name: string,
  compression: CompressionName,
  compressedBytes: number,
  spans: readonly SpanShape[],
): LayerIndex {
  const records = Buffer.alloc(spans.length * 80);
  const windows: Buffer[] = [];
  let uncompressedBytes = 0;
  let windowsBytes = 0;
  spans.forEach((span, i) => {
    const at = i * 80;
    records.writeBigUInt64LE(BigInt(uncompressedBytes), at);
    records.writeUInt32LE(span.length, at + 8);
    records.writeUInt8(span.restart ?? 1, at + 12);
    records.writeUInt8(span.startBit ?? 0, at + 13);
    records.writeBigUInt64LE(BigInt(span.compressedStart), at + 16);
    records.writeBigUInt64LE(BigInt(span.compressedEnd), at + 24);
    if (span.window) {
      const stored = deflateRawSync(span.window);
      records.writeBigUInt64LE(BigInt(windowsBytes), at + 32);
      records.writeUInt32LE(stored.length, at + 40);
      records.writeUInt32LE(span.window.length, at + 44);
      windows.push(stored);
      windowsBytes += stored.length;
    }
    createHash("sha256")
      .update(`${name} ${i}`)
      .digest()
      .copy(records, at + 48);
    uncompressedBytes += span.length;
  });
  return {
    digest: digestOf(Buffer.from(`blob of ${name}`)),
    diffId: digestOf(Buffer.from(`tar of ${name}`)),
    compression,
    compressedBytes,
    uncompressedBytes,
    trailingBytes: 0,
    spanRecords: records,
    windows: Buffer.concat(windows),
    entries: [],
    warnings: [],
  };
}

/** Contents of an archive: manifest and config are made to fit the layers. */
export function contentsOf(
  root: TreeNode,
  layers: readonly LayerIndex[],
  fields: Partial<ArchiveContents> = {},
): ArchiveContents {
  const configBytes = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: { Cmd: ["/bin/sh"] },
      rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    }),
  );
  const mediaType = mediaTypes.ociLayerGzip;
  const manifestBytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: digestOf(configBytes), size: configBytes.length },
      layers: layers.map((layer) => ({ mediaType, digest: layer.digest, size: layer.compressedBytes })),
    }),
  );
  return {
    reference: "registry.example/app:v1",
    platform: { os: "linux", architecture: "amd64" },
    manifestDigest: digestOf(manifestBytes),
    manifestMediaType: mediaTypes.ociManifest,
    manifestBytes,
    configBytes,
    spanBytes: 1024 * 1024,
    layers: layers.map((index) => ({ descriptorMediaType: mediaType, index })),
    tree: { root, warnings: [] },
    warnings: [],
    ...fields,
  };
}

/** With a start set where `startSpans` are given. */
export function encoded(contents: ArchiveContents, startSpans?: readonly number[]): Buffer {
  const archive = encodeArchive(contents);
  return Buffer.concat(archivePieces(startSpans ? withStartSpans(archive, startSpans) : archive));
}

/** Three spans of a gzip layer, the second without a restart point, the third with a window of 100 bytes that begins within a byte. */
export const gzipLayer = layerIndex("base", "gzip", 1000, [
  { length: 400, compressedStart: 0, compressedEnd: 300 },
  { length: 400, restart: 0, compressedStart: 0, compressedEnd: 620 },
  {
    length: 300,
    restart: 2,
    startBit: 3,
    compressedStart: 610,
    compressedEnd: 900,
    window: Buffer.alloc(100, "history "),
  },
]);

export const plainLayer = layerIndex("top", "none", 500, [
  { length: 300, compressedStart: 0, compressedEnd: 300 },
  { length: 200, compressedStart: 300, compressedEnd: 500 },
]);

/** A small tree with one of everything: all types, hard links, a sparse file, shared xattrs, odd names. */
export function sampleTree(): TreeNode {
  const capability = [xattr("security.capability", "\x01\x00\x00\x02\xff"), xattr("user.note", "")];
  const linked = file(0, 100, { mode: 0o4755, uid: 70_000, gid: 5, xattrs: capability });
  return directory(
    {
      bin: directory({ su: linked, "su.old": linked, sh: symlink("../usr/bin/dash") }),
      dev: directory({
        null: node("character", { mode: 0o666, deviceMajor: 1, deviceMinor: 3 }),
        sda: node("block", { mode: 0o660, deviceMajor: 4095, deviceMinor: 1_048_575 }),
        log: node("fifo", { mode: 0o600 }),
      }),
      tmp: directory({}, { mode: 0o1777 }),
      sparse: node("file", {
        fileBytes: 10_000,
        layer: 1,
        extents: [
          { fileOffset: 100, layerOffset: 0, length: 50 },
          { fileOffset: 150, layerOffset: 200, length: 50 },
          { fileOffset: 9_000, layerOffset: 400, length: 100 },
        ],
      }),
      old: file(100, 20, { mtimeSec: -1, mtimeNsec: 999_999_999, xattrs: [...capability] }),
      "new\nline": file(1000, 100, { xattrs: [xattr("user.note", "\xfe")] }),
      [byteStringFromText("naïve")]: file(0, 0),
      "\xff\xfe": symlink("\xc3\x28"),
    },
    { mode: 0o711, uid: 5, gid: 6, mtimeNsec: 123_456_789, xattrs: capability },
  );
}

export function sampleContents(): ArchiveContents {
  return contentsOf(sampleTree(), [gzipLayer, plainLayer, gzipLayer], { warnings: ["layer 1: odd"] });
}
