/**
 * Tars for tests, byte by byte: ordinary entries in one line each, and every quirk that a tar can have. Nothing is checked, so
 * that hostile tars can be made too. Layout: POSIX pax interchange format (ustar header, `x` and `g` members); tar(5) of libarchive and GNU
 * tar's tar.h for what came before.
 */

export interface TarEntrySpec {
  /** As it stands in the tar; a directory has its trailing `/` only if it is written here. */
  readonly path: string | Buffer;
  /** Default: `symlink` where `link` is given, `directory` where the path ends in `/`, else `file`. */
  readonly type?: "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";
  /** Default 0644, for directories 0755, for symlinks 0777. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Default 1,700,000,000; may be negative. */
  readonly mtimeSec?: number;
  /** 0 to 999,999,999, forward from mtimeSec. */
  readonly mtimeNsec?: number;
  readonly content?: string | Buffer;
  readonly link?: string | Buffer;
  readonly xattrs?: Readonly<Record<string, Buffer | string>>;
  readonly major?: number;
  readonly minor?: number;

  // -- quirks ------------------------------------------------------------------------------------------------------
  /** How the header looks: `ustar` (default) escapes to pax records, `gnu` to L and K members and base-256, `v7` to nothing. */
  readonly format?: "ustar" | "gnu" | "v7";
  /** The type byte in place of `type`'s. */
  readonly typeflag?: string;
  /** The size field in place of the content's length. */
  readonly size?: number;
  /** Further pax records, behind those that the entry needs. */
  readonly pax?: readonly PaxRecord[];
  /** Has the last word on the header, before the checksum is put in. */
  readonly header?: (header: Buffer) => void;
}

/** Keys are text but for the names of extended attributes, which may be any bytes. */
export type PaxRecord = readonly [key: string | Buffer, value: string | Buffer];

const BLOCK = 512;
const typeflags = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
} as const;

/** A whole tar: the entries (or ready-made bytes) and two blocks of zeros. */
export function buildTar(entries: ReadonlyArray<TarEntrySpec | Buffer>): Buffer {
  return Buffer.concat([...entries.map(tarMember), tarEnd]);
}

/** Two blocks of zeros. */
export const tarEnd = Buffer.alloc(2 * BLOCK);

/** One entry with all that goes before its header (pax, GNU long names) and behind it (content, padding). */
export function tarMember(spec: TarEntrySpec | Buffer): Buffer {
  if (Buffer.isBuffer(spec)) return spec;
  const path = bytes(spec.path);
  const link = bytes(spec.link ?? "");
  const type =
    spec.type ?? (spec.link !== undefined ? "symlink" : path.at(-1) === 0x2f ? "directory" : "file");
  const content = bytes(spec.content ?? "");
  const format = spec.format ?? "ustar";
  const mtimeSec = spec.mtimeSec ?? 1_700_000_000;
  const uid = spec.uid ?? 0;
  const gid = spec.gid ?? 0;
  const size = spec.size ?? content.length;
  const records: PaxRecord[] = [];
  const before: Buffer[] = [];

  if (format === "ustar") {
    if (path.length > 100) records.push(["path", path]);
    if (link.length > 100) records.push(["linkpath", link]);
    if (size > 0o77777777777) records.push(["size", String(size)]);
    if (uid > 0o7777777) records.push(["uid", String(uid)]);
    if (gid > 0o7777777) records.push(["gid", String(gid)]);
    if (mtimeSec < 0 || mtimeSec > 0o77777777777 || spec.mtimeNsec) {
      records.push(["mtime", paxTime(mtimeSec, spec.mtimeNsec ?? 0)]);
    }
  } else if (format === "gnu") {
    if (link.length > 100) before.push(gnuLongName("K", link));
    if (path.length > 100) before.push(gnuLongName("L", path));
  }
  for (const [name, value] of Object.entries(spec.xattrs ?? {}))
    records.push([`SCHILY.xattr.${name}`, value]);
  records.push(...(spec.pax ?? []));
  if (records.length > 0) before.push(paxMember("x", records));

  const header = Buffer.alloc(BLOCK);
  path.copy(header, 0, 0, 100);
  header.write(
    octal(spec.mode ?? (type === "directory" ? 0o755 : type === "symlink" ? 0o777 : 0o644), 7),
    100,
  );
  putNumber(header, 108, 8, uid, format);
  putNumber(header, 116, 8, gid, format);
  putNumber(header, 124, 12, size, format);
  putNumber(header, 136, 12, mtimeSec, format);
  header.write(spec.typeflag ?? typeflags[type], 156, "latin1");
  link.copy(header, 157, 0, 100);
  if (format !== "v7") {
    header.write(format === "gnu" ? "ustar  \0" : "ustar\x0000", 257, "latin1");
    if (spec.major !== undefined) putNumber(header, 329, 8, spec.major, format);
    if (spec.minor !== undefined) putNumber(header, 337, 8, spec.minor, format);
  }
  spec.header?.(header);
  return Buffer.concat([...before, withChecksum(header), padded(content)]);
}

/** A member of type `x` (for the next entry) or `g` (for all that follow) with these records. */
export function paxMember(typeflag: "x" | "g", records: readonly PaxRecord[]): Buffer {
  const content = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  return tarMember({ path: "PaxHeaders/entry", typeflag, content });
}

/** `LENGTH KEY=VALUE\n`, the length being that of the whole record. */
export function paxRecord(key: string | Buffer, value: string | Buffer): Buffer {
  const rest = Buffer.concat([
    Buffer.from(" "),
    bytes(key),
    Buffer.from("="),
    bytes(value),
    Buffer.from("\n"),
  ]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** A GNU `L` (path) or `K` (link target) member; its content ends with a NUL. */
export function gnuLongName(typeflag: "L" | "K", name: string | Buffer): Buffer {
  return tarMember({
    path: "././@LongLink",
    typeflag,
    format: "gnu",
    content: Buffer.concat([bytes(name), Buffer.from([0])]),
  });
}

/** Puts the checksum of a header block in its place; `signed` sums bytes as signed chars, as some old tars did. */
export function withChecksum(header: Buffer, signed = false): Buffer {
  header.fill(" ", 148, 156);
  let sum = 0;
  for (const byte of header) sum += signed && byte > 127 ? byte - 256 : byte;
  header.write(`${octal(sum, 6)}\0 `, 148, "latin1");
  return header;
}

/** Zeros up to the next whole block. */
export function padded(content: Buffer): Buffer {
  const rest = content.length % BLOCK;
  return rest === 0 ? content : Buffer.concat([content, Buffer.alloc(BLOCK - rest)]);
}

/** Big-endian two's complement with the top bit set: GNU's and star's form for numbers that octal cannot hold. */
export function base256(value: number | bigint, width: number): Buffer {
  const field = Buffer.alloc(width);
  let rest = BigInt(value);
  for (let at = width - 1; at >= 0; at--) {
    field[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  field[0]! |= 0x80;
  return field;
}

function putNumber(header: Buffer, at: number, width: number, value: number, format: string): void {
  const fits = value >= 0 && value < 8 ** (width - 1);
  if (fits) header.write(octal(value, width - 1), at, "latin1");
  else if (format === "gnu") base256(value, width).copy(header, at);
  else header.write(octal(0, width - 1), at, "latin1");
}

function paxTime(sec: number, nsec: number): string {
  if (nsec === 0) return String(sec);
  // -1.5 s is sec -2 and nsec 500,000,000: decimal text counts away from zero.
  const total = BigInt(sec) * 1_000_000_000n + BigInt(nsec);
  const positive = total < 0n ? -total : total;
  const fraction = String(positive % 1_000_000_000n).padStart(9, "0");
  return `${total < 0n ? "-" : ""}${positive / 1_000_000_000n}.${fraction}`;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}

function bytes(value: string | Buffer): Buffer {
  return typeof value === "string" ? Buffer.from(value) : value;
}
