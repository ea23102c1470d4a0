/**
 * The presence map: which spans of a layer are in its data file, and when they were used. One byte a span, so that threads and processes that
 * share the file (with pread and pwrite) set one without touching its neighbours. A byte is set only after the bytes of its
 * span were written; nothing is synced, so after a crash it may be set without them: a span is checked before its first use.
 *
 * ```
 *  0   8 bytes   magic `SKIMMAP` and 0x0A
 *  8   u32       version, 2
 * 12   u32       spanCount
 * 16   32 bytes  layout: see layoutOf in cached-layer.ts
 * 48   f64       when the layer was last used, ms since 1970
 * 56   8 bytes   reserved, zero
 * 64   one byte a span: 1 present, 2 being evicted (neither read nor written), anything else absent
 *  a   u32 a span, at the next multiple of 4: when it was last used, in seconds since 1970, at most a minute late; 0 unknown
 *  b   36 bytes a span: its length (u32) and sha256. sha256 of all of these is the layout
 * ```
 * Integers are little endian. Within one file a byte goes from 0 to 1 (written), from 1 to 0 (found damaged) and from 2 to 0 (evicted), never
 * from 1 to 2: spans are chosen for eviction in a new map that takes the old one's name (layer-eviction.ts).
 */
import { createHash } from "node:crypto";

const magic = Buffer.from("SKIMMAP\n", "latin1");
const version = 2;
const identityBytes = 48;
export const MAP_HEADER_BYTES = 64;
export const LAST_USED_AT = 48;

export const SpanState = { absent: 0, present: 1, evicting: 2 } as const;

/** Of the length and sha256 of a span in a map, and in what a layout is the hash of. */
export const SPAN_ENTRY_BYTES = 36;

export function mapBytes(spanCount: number): number {
  return tableAt(spanCount) + spanCount * SPAN_ENTRY_BYTES;
}

/** Where the byte of a span is. */
export function stateAt(span: number): number {
  return MAP_HEADER_BYTES + span;
}

/** Where the time of a span is. */
export function usedAt(span: number, spanCount: number): number {
  return MAP_HEADER_BYTES + Math.ceil(spanCount / 4) * 4 + span * 4;
}

function tableAt(spanCount: number): number {
  return usedAt(spanCount, spanCount);
}

/** The whole file with no span present. `table`: SPAN_ENTRY_BYTES a span. */
export function emptyMap(table: Uint8Array, layout: Uint8Array): Buffer {
  const spanCount = table.length / SPAN_ENTRY_BYTES;
  const bytes = Buffer.alloc(mapBytes(spanCount));
  writeIdentity(bytes, spanCount, layout);
  bytes.set(table, tableAt(spanCount));
  return bytes;
}

function writeIdentity(into: Buffer, spanCount: number, layout: Uint8Array): void {
  magic.copy(into);
  into.writeUInt32LE(version, 8);
  into.writeUInt32LE(spanCount, 12);
  into.set(layout, 16);
}

/** True where `header` (the file's first MAP_HEADER_BYTES) is that of a map for this layout. */
export function isMapFor(header: Buffer, spanCount: number, layout: Uint8Array): boolean {
  const expected = Buffer.alloc(identityBytes);
  writeIdentity(expected, spanCount, layout);
  return header.subarray(0, identityBytes).equals(expected);
}

/** A whole map; undefined where it is none, or its table is not the one that its layout is the hash of. */
export function readMap(bytes: Buffer): PresenceMap | undefined {
  if (bytes.length < MAP_HEADER_BYTES) return undefined;
  const spanCount = bytes.readUInt32LE(12);
  if (bytes.length !== mapBytes(spanCount)) return undefined;
  const layout = createHash("sha256")
    .update(bytes.subarray(tableAt(spanCount)))
    .digest();
  return isMapFor(bytes, spanCount, layout) ? new PresenceMap(bytes, spanCount) : undefined;
}

/** A copy of a map in memory. */
export class PresenceMap {
  readonly bytes: Buffer;
  readonly spanCount: number;

  constructor(bytes: Buffer, spanCount: number) {
    this.bytes = bytes;
    this.spanCount = spanCount;
  }

  get layout(): Buffer {
    return this.bytes.subarray(16, identityBytes);
  }

  /** Milliseconds since 1970. */
  get lastUsedMs(): number {
    return this.bytes.readDoubleLE(LAST_USED_AT);
  }

  state(span: number): number {
    return this.bytes[stateAt(span)]!;
  }

  setState(span: number, state: number): void {
    this.bytes[stateAt(span)] = state;
  }

  /** Seconds since 1970; 0 where that was never noted. */
  usedSec(span: number): number {
    return this.bytes.readUInt32LE(usedAt(span, this.spanCount));
  }

  spanBytes(span: number): number {
    return this.bytes.readUInt32LE(tableAt(this.spanCount) + span * SPAN_ENTRY_BYTES);
  }

  /** 32 bytes. */
  sha256(span: number): Buffer {
    const at = tableAt(this.spanCount) + span * SPAN_ENTRY_BYTES;
    return this.bytes.subarray(at + 4, at + SPAN_ENTRY_BYTES);
  }

  /** Where each span begins in the layer, and behind them where the layer ends. */
  spanOffsets(): number[] {
    const offsets = [0];
    for (let span = 0; span < this.spanCount; span++) offsets.push(offsets[span]! + this.spanBytes(span));
    return offsets;
  }

  spansIn(state: number): number[] {
    const spans: number[] = [];
    for (let span = 0; span < this.spanCount; span++) if (this.state(span) === state) spans.push(span);
    return spans;
  }
}
