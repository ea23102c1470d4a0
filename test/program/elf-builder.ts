/** Small ELF objects, by the layouts of elf(5): headers, one PT_LOAD over all, and what is asked for. Nothing in them can run. */

export interface ElfShape {
  readonly bits?: 32 | 64;
  readonly bigEndian?: boolean;
  /** e_machine; default x86-64. */
  readonly machine?: number;
  readonly interpreter?: string;
  readonly needed?: readonly string[];
  readonly soname?: string;
  readonly rpath?: string;
  readonly runpath?: string;
  readonly flags1?: number;
  /** Name of a note; it is the second one, behind one of 5 and 6 bytes. */
  readonly note?: string;
  /** False: a static program. Default: where anything above needs it, or `true`. */
  readonly dynamic?: boolean;
  /** Address of the first byte of the file. */
  readonly base?: number;
  /** Bytes of zeros behind. */
  readonly padding?: number;
}

const tagNumbers = {
  needed: 1,
  soname: 14,
  rpath: 15,
  runpath: 29,
  strings: 5,
  stringsBytes: 10,
  flags1: 0x6ffffffb,
};

export function elf(shape: ElfShape = {}): Buffer {
  const { bits = 64, bigEndian = false, machine = 62, base = 0x1000, padding = 0 } = shape;
  const is64 = bits === 64;
  const word = is64 ? 8 : 4;
  const headerBytes = is64 ? 64 : 52;
  const programHeaderBytes = is64 ? 56 : 32;
  const isDynamic = shape.dynamic ?? true;

  let strings = "\0";
  const stringAt = (text: string) => {
    const at = strings.length;
    strings += `${text}\0`;
    return at;
  };
  const entries: [tag: number, value: number][] = [];
  for (const name of shape.needed ?? []) entries.push([tagNumbers.needed, stringAt(name)]);
  for (const tag of ["soname", "rpath", "runpath"] as const) {
    const text = shape[tag];
    if (text !== undefined) entries.push([tagNumbers[tag], stringAt(text)]);
  }
  if (shape.flags1) entries.push([tagNumbers.flags1, shape.flags1]);
  entries.push([tagNumbers.strings, 0], [tagNumbers.stringsBytes, strings.length], [0, 0]);

  const segmentCount =
    1 + (shape.interpreter === undefined ? 0 : 1) + (isDynamic ? 1 : 0) + (shape.note === undefined ? 0 : 1);
  const interpreterAt = headerBytes + segmentCount * programHeaderBytes;
  const interpreterBytes = shape.interpreter === undefined ? 0 : shape.interpreter.length + 1;
  const noteAt = Math.ceil((interpreterAt + interpreterBytes) / 4) * 4;
  const noteBytes =
    shape.note === undefined ? 0 : 12 + 8 + 8 + 12 + Math.ceil((shape.note.length + 1) / 4) * 4;
  const dynamicAt = Math.ceil((noteAt + noteBytes) / 8) * 8;
  const dynamicBytes = isDynamic ? entries.length * 2 * word : 0;
  const stringsAt = dynamicAt + dynamicBytes;
  const bytes = Buffer.alloc(stringsAt + strings.length + padding);

  const u16 = (at: number, value: number) =>
    bigEndian ? bytes.writeUInt16BE(value, at) : bytes.writeUInt16LE(value, at);
  const u32 = (at: number, value: number) =>
    bigEndian ? bytes.writeUInt32BE(value, at) : bytes.writeUInt32LE(value, at);
  const writeWord = (at: number, value: number) => {
    if (!is64) u32(at, value);
    else if (bigEndian) bytes.writeBigUInt64BE(BigInt(value), at);
    else bytes.writeBigUInt64LE(BigInt(value), at);
  };

  bytes.write("\x7fELF", 0, "latin1");
  bytes[4] = is64 ? 2 : 1;
  bytes[5] = bigEndian ? 2 : 1;
  bytes[6] = 1;
  u16(16, 3);
  u16(18, machine);
  writeWord(24, base + headerBytes);
  writeWord(24 + word, headerBytes);
  u16(is64 ? 54 : 42, programHeaderBytes);
  u16(is64 ? 56 : 44, segmentCount);

  let header = headerBytes;
  const segment = (type: number, at: number, length: number) => {
    u32(header, type);
    u32(header + (is64 ? 4 : 24), 5);
    writeWord(header + (is64 ? 8 : 4), at);
    writeWord(header + (is64 ? 16 : 8), base + at);
    writeWord(header + (is64 ? 32 : 16), length);
    header += programHeaderBytes;
  };
  segment(1, 0, bytes.length);
  if (shape.interpreter !== undefined) {
    segment(3, interpreterAt, interpreterBytes);
    bytes.write(`${shape.interpreter}\0`, interpreterAt, "latin1");
  }
  if (shape.note !== undefined) {
    segment(4, noteAt, noteBytes);
    u32(noteAt, 5);
    u32(noteAt + 4, 6);
    bytes.write("Odd!", noteAt + 12, "latin1");
    u32(noteAt + 28, shape.note.length + 1);
    bytes.write(shape.note, noteAt + 40, "latin1");
  }
  if (isDynamic) {
    segment(2, dynamicAt, dynamicBytes);
    entries.forEach(([tag, value], i) => {
      writeWord(dynamicAt + i * 2 * word, tag);
      writeWord(dynamicAt + (i * 2 + 1) * word, tag === tagNumbers.strings ? base + stringsAt : value);
    });
    bytes.write(strings, stringsAt, "latin1");
  }
  return bytes;
}

/** A program that glibc's loader interprets. */
export const program = (needed: readonly string[] = [], shape: ElfShape = {}) =>
  elf({ interpreter: "/lib64/ld-linux-x86-64.so.2", needed, ...shape });

export const library = (soname: string, shape: ElfShape = {}) => elf({ soname, ...shape });
