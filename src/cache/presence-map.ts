/**
 * The presence map: which spans of a layer are in its data file. One byte a span, so that threads and processes that share the
 * file (by mapping it or with pread and pwrite) set one without touching its neighbours. A byte is set only after the bytes of its
 * span were written; nothing is synced, so after a crash it may be set without them: a span is checked before its first use.
 *
 * ```
 *  0   8 bytes   magic `SKIMMAP` and 0x0A
 *  8   u32       version, 1
 * 12   u32       spanCount
 * 16   32 bytes  layout: see layoutOf in cached-layer.ts
 * 48   16 bytes  reserved, zero
 * 64   one byte a span: 1 present, anything else absent
 * ```
 * Integers are little endian.
 */
const magic = Buffer.from("SKIMMAP\n", "latin1");
const version = 1;
export const MAP_HEADER_BYTES = 64;

export function mapBytes(spanCount: number): number {
  return MAP_HEADER_BYTES + spanCount;
}

/** The whole file with no span present. */
export function emptyMap(spanCount: number, layout: Uint8Array): Buffer {
  const bytes = Buffer.alloc(mapBytes(spanCount));
  magic.copy(bytes);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(spanCount, 12);
  bytes.set(layout, 16);
  return bytes;
}

/** True where `header` (the file's first MAP_HEADER_BYTES) is that of a map for this layout. */
export function isMapFor(header: Buffer, spanCount: number, layout: Uint8Array): boolean {
  return header.equals(emptyMap(spanCount, layout).subarray(0, MAP_HEADER_BYTES));
}
