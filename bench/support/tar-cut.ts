/** Cuts a tar into several, as layers of one image: between members, at about equal distances. */
import { type FileHandle, open } from "node:fs/promises";
import type { ByteRange } from "../../src/base/byte-range.js";
import { isExtendedHeader } from "../../src/layer/extended-headers.js";
import { BlockKind, blockKind, headerNumber, TAR_BLOCK_BYTES, viewOf } from "../../src/layer/tar-header.js";

/**
 * Ranges of `file` that hold whole members, in order; together they are all of its members, without the blocks of zeros at its end, which each part needs
 * of its own. Fewer than `parts` where members are larger than a part.
 */
export async function cutTar(file: string, parts: number): Promise<ByteRange[]> {
  const handle = await open(file);
  try {
    const { starts, end } = await membersOf(handle);
    const cuts = [0];
    for (const start of starts)
      if (start >= (end * cuts.length) / parts && start > cuts.at(-1)!) cuts.push(start);
    return cuts.map((start, part) => ({ start, end: cuts[part + 1] ?? end }));
  } finally {
    await handle.close();
  }
}

/** Where each member begins, with the extended headers that belong to it, and where the last one ends. */
async function membersOf(handle: FileHandle): Promise<{ starts: number[]; end: number }> {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const view = viewOf(block);
  const starts: number[] = [];
  let extended = false;
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(block, 0, TAR_BLOCK_BYTES, at);
    if (bytesRead === 0 || blockKind(block, view, 0) === BlockKind.zeros) return { starts, end: at };
    if (!extended) starts.push(at);
    extended = isExtendedHeader(block[156]!);
    const blocks = Math.ceil(headerNumber(block, 124, 12) / TAR_BLOCK_BYTES);
    at += (1 + blocks) * TAR_BLOCK_BYTES;
  }
}
