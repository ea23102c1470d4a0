/** ld.so.cache in both layouts of ldconfig (glibc, sysdeps/generic/dl-cache.h). */
type Entry = readonly [name: string, path: string];

function laidOut(entries: readonly Entry[], start: number) {
  let strings = "";
  const places = entries.map((entry) =>
    entry.map((text) => {
      const at = start + strings.length;
      strings += `${text}\0`;
      return at;
    }),
  );
  return { places, strings: Buffer.from(strings, "latin1") };
}

/** Entries from `hwcapFrom` on are for certain processors. */
export function newCache(
  entries: readonly Entry[],
  { bigEndian = false, hwcapFrom = entries.length }: { bigEndian?: boolean; hwcapFrom?: number } = {},
): Buffer {
  const head = Buffer.alloc(48 + entries.length * 24);
  const u32 = (at: number, value: number) =>
    bigEndian ? head.writeUInt32BE(value, at) : head.writeUInt32LE(value, at);
  const { places, strings } = laidOut(entries, head.length);
  head.write("glibc-ld.so.cache1.1", 0, "latin1");
  u32(20, entries.length);
  u32(24, strings.length);
  head[28] = bigEndian ? 3 : 2;
  places.forEach(([key, value], i) => {
    const at = 48 + i * 24;
    u32(at, 0x0303);
    u32(at + 4, key!);
    u32(at + 8, value!);
    if (i >= hwcapFrom) head.writeBigUInt64LE(1n << 62n, at + 16);
  });
  return Buffer.concat([head, strings]);
}

/** Without `strings` padded to where a new cache may follow, whose strings both use. */
export function oldCache(entries: readonly Entry[], options: { strings?: boolean } = {}): Buffer {
  const head = Buffer.alloc(16 + entries.length * 12);
  const { places, strings } = laidOut(entries, 0);
  head.write("ld.so-1.7.0", 0, "latin1");
  head.writeUInt32LE(entries.length, 12);
  places.forEach(([key, value], i) => {
    head.writeUInt32LE(3, 16 + i * 12);
    head.writeUInt32LE(key!, 20 + i * 12);
    head.writeUInt32LE(value!, 24 + i * 12);
  });
  if (options.strings === false) return Buffer.concat([head, Buffer.alloc((8 - (head.length % 8)) % 8)]);
  return Buffer.concat([head, strings]);
}
