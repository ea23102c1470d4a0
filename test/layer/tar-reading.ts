import { expect } from "vitest";
import { byteStringFromText } from "../../src/base/byte-string.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import { TarReader } from "../../src/layer/tar-reader.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";

export interface TarReading {
  readonly entries: LayerEntry[];
  readonly warnings: readonly string[];
}

/** Reads a whole tar, pushed in pieces of `pieceBytes`. */
export function readTar(
  tar: Buffer,
  { pieceBytes = tar.length, entriesMax = 1_000_000 }: { pieceBytes?: number; entriesMax?: number } = {},
): TarReading {
  const entries: LayerEntry[] = [];
  const reader = new TarReader({
    where: "layer 1 of 1",
    entriesMax,
    onEntry: (entry) => entries.push(entry),
  });
  for (let at = 0; at < tar.length; at += pieceBytes) {
    // A copy that is wiped afterwards: whatever the reader still needs of it is lost.
    const piece = Buffer.from(tar.subarray(at, at + pieceBytes));
    reader.push(piece);
    piece.fill(0xee);
  }
  reader.end();
  return { entries, warnings: reader.warnings };
}

/** The bytes of a file as its extents say, holes as zeros. */
export function contentOf(entry: LayerEntry, tar: Buffer): Buffer {
  const content = Buffer.alloc(entry.fileBytes);
  let fileEnd = 0;
  for (const { fileOffset, layerOffset, length } of entry.extents) {
    if (fileOffset < fileEnd || length < 1 || fileOffset + length > entry.fileBytes) {
      throw new Error(`extents of ${entry.path} overlap, are empty or reach beyond the file`);
    }
    if (layerOffset + length > tar.length) throw new Error(`extents of ${entry.path} reach beyond the tar`);
    tar.copy(content, fileOffset, layerOffset, layerOffset + length);
    fileEnd = fileOffset + length;
  }
  return content;
}

export function entryAt(reading: TarReading, path: string): LayerEntry {
  const name = byteStringFromText(path);
  const found = reading.entries.filter((entry) => entry.path === name);
  if (found.length !== 1) {
    throw new Error(`${found.length} entries ${path} among ${reading.entries.map((entry) => entry.path)}`);
  }
  return found[0]!;
}

/** The only entry of a tar of these members. */
export function only(...specs: Array<TarEntrySpec | Buffer>): LayerEntry {
  const { entries } = readTar(buildTar(specs));
  expect(entries).toHaveLength(1);
  return entries[0]!;
}

/** Matches a LAYER_CORRUPT whose message has `sentence`. */
export const corrupt = (sentence: RegExp) =>
  expect.objectContaining({ code: "LAYER_CORRUPT", message: expect.stringMatching(sentence) });

/** Matches a LIMIT_EXCEEDED whose message has `sentence`. */
export const beyondLimit = (sentence: RegExp) =>
  expect.objectContaining({ code: "LIMIT_EXCEEDED", message: expect.stringMatching(sentence) });
