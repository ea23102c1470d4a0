/**
 * Which bytes of an object a start reads. Measured as the spans of 64 KiB that reads of a mount touched, the kernel's reading around page faults
 * among them (1 MiB, src/fuse/read-ahead.ts); Debian 12, Linux 6.18. Shares are of what is loaded, without debug information:
 *
 *   library             KiB   touched   by             program                KiB   touched   by
 *   libc.so.6         1,874    100 %    all            python3.11 (static)  6,671     99 %    -c pass
 *   libcrypto.so.3    4,621    100 %    node -e 0      docker-registry (Go) 20,224    97 %    --version
 *   liblapack.so.3    7,160     38 %    import numpy   docker (Go)         28,067     99 %    --version
 *   libjvm.so        19,521     97 %    java -version  cargo (Rust)        31,973     80 %    --version
 *   libicudata.so.72 30,528      9 %    node -e 0      kubectl (Go)        56,002     91 %    version --client
 *   libnode.so.108   46,335     71 %    node -e 0      terraform (Go)      88,456     91 %    version
 *                                                      biome (Rust)        65,096     26 %    --version
 *                                                      node 20 (static)    84,333     56 %    -e 0
 *
 * So a library is read whole up to 8 MiB, a program up to 32 MiB, and one that Go made whatever its size: its runtime goes through tables
 * of types and functions that lie everywhere. What is behind the loaded bytes, debug information above all, is not read.
 *
 * Of larger ones a start reads, whatever it does then: what the loader goes through to relocate them (from the first byte to the end of
 * symbols, strings and relocations, which stand in front), what it writes to (.data.rel.ro, .got, .data: all writable segments; every page of
 * libjvm's, libnode's and node's), and the code that runs first (the entry point, .init and .text.startup, which linkers put at the front
 * of the code). How much of the rest is touched is the program's affair: see runtimes.ts.
 */
import type { ByteRange } from "../base/byte-range.js";
import { type ElfObject, type ElfSegment, segmentFlags, segmentTypes } from "./elf.js";

const MiB = 1024 * 1024;
const wholeLibraryBytesMax = 8 * MiB;
const wholeProgramBytesMax = 32 * MiB;
/** What the kernel reads where a page is missing: half of it in front, half behind. */
const readAroundBytes = MiB;

/** Ranges of the file in ascending order, not overlapping. */
export function libraryRanges(object: ElfObject, fileBytes: number, shares: SegmentShares = {}): ByteRange[] {
  return objectRanges(object, fileBytes, shares, wholeLibraryBytesMax);
}

/** As libraryRanges, for what is executed itself. */
export function programRanges(object: ElfObject, fileBytes: number, shares: SegmentShares = {}): ByteRange[] {
  return objectRanges(
    object,
    fileBytes,
    shares,
    object.isGo ? Number.POSITIVE_INFINITY : wholeProgramBytesMax,
  );
}

function objectRanges(
  object: ElfObject,
  fileBytes: number,
  shares: SegmentShares,
  wholeBytesMax: number,
): ByteRange[] {
  const loaded = object.segments.filter(({ type }) => type === segmentTypes.load);
  const loadedEnd = Math.max(0, ...loaded.map(({ end }) => end));
  if (loadedEnd <= wholeBytesMax)
    return joinedRanges([{ start: 0, end: Math.min(loadedEnd + readAroundBytes / 2, fileBytes) }]);
  const { relocations = [], tables = [] } = object.dynamic ?? {};
  const tablesEnd = Math.max(readAroundBytes, ...tables, ...relocations.map(({ end }) => end));
  const ranges = [{ start: 0, end: tablesEnd }];
  const code = loaded.filter(({ flags }) => (flags & segmentFlags.execute) !== 0);
  const constants = loaded.filter(
    ({ flags, start }) => (flags & (segmentFlags.execute | segmentFlags.write)) === 0 && start > 0,
  );
  for (const segment of code) ranges.push(firstBytes(segment, shares.code));
  for (const segment of constants) if (shares.constants) ranges.push(firstBytes(segment, shares.constants));
  for (const segment of loaded) if (segment.flags & segmentFlags.write) ranges.push(around(segment));
  if (shares.unwinding)
    for (const segment of object.segments)
      if (segment.type === segmentTypes.unwinding) ranges.push(around(segment));
  const { entryOffset } = object;
  if (entryOffset !== undefined) ranges.push(around({ start: entryOffset, end: entryOffset }));
  return joinedRanges(ranges.map(({ start, end }) => ({ start, end: Math.min(end, fileBytes) })));
}

/** How much of a large object's code and constants a start reads, from 0 to 1 and from their beginning; see runtimes.ts. */
export interface SegmentShares {
  readonly code?: number;
  readonly constants?: number;
  /** It throws exceptions: .eh_frame_hdr is searched. */
  readonly unwinding?: boolean;
}

function around({ start, end }: ByteRange): ByteRange {
  return { start: Math.max(0, start - readAroundBytes / 2), end: end + readAroundBytes / 2 };
}

function firstBytes({ start, end }: ElfSegment, share = 0): ByteRange {
  return { start, end: Math.min(end, start + Math.max(readAroundBytes, Math.ceil((end - start) * share))) };
}

/** Ascending, those that touch joined. */
export function joinedRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: { start: number; end: number }[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = joined.at(-1);
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else if (end > start) joined.push({ start, end });
  }
  return joined;
}
