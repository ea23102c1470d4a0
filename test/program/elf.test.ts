import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { type ElfObject, isElf, readElf } from "../../src/program/elf.js";
import { type ElfShape, elf } from "./elf-builder.js";

const readOf = (file: Buffer) =>
  readElf(async (offset, length) => file.subarray(offset, offset + length), file.length);

async function objectOf(file: Buffer): Promise<ElfObject> {
  const object = await readOf(file);
  if (!isElf(object)) throw new Error(object.found);
  return object;
}

const layouts: [string, ElfShape][] = [
  ["64 bits, little endian", {}],
  ["64 bits, big endian", { bigEndian: true, machine: 22 }],
  ["32 bits, little endian", { bits: 32, machine: 3 }],
  ["32 bits, big endian", { bits: 32, bigEndian: true, machine: 20 }],
];

describe("an ELF object", () => {
  it.each(layouts)(
    "of %s gives its interpreter, its libraries and where they are looked for",
    async (_, layout) => {
      const object = await objectOf(
        elf({
          ...layout,
          interpreter: "/lib/ld.so.1",
          needed: ["libone.so.1", "libtwo.so.2"],
          soname: "libself.so",
          rpath: "$ORIGIN/../lib",
          runpath: "/opt/lib",
          flags1: 0x800,
        }),
      );
      expect(object).toMatchObject({
        bits: layout.bits ?? 64,
        littleEndian: !layout.bigEndian,
        machine: layout.machine ?? 62,
        interpreter: "/lib/ld.so.1",
        dynamic: {
          needed: ["libone.so.1", "libtwo.so.2"],
          soname: "libself.so",
          rpath: "$ORIGIN/../lib",
          runpath: "/opt/lib",
          noDefaultDirectories: true,
        },
      });
      expect(object.entryOffset).toBe(layout.bits === 32 ? 52 : 64);
    },
  );

  it("says whether Go made it", async () => {
    expect((await objectOf(elf({ note: "Go\0" }))).isGo).toBe(true);
    expect((await objectOf(elf({ note: "Go\0", bigEndian: true }))).isGo).toBe(true);
    expect((await objectOf(elf({ note: "GNU" }))).isGo).toBe(false);
    expect((await objectOf(elf({ note: "Gone" }))).isGo).toBe(false);
  });

  it("that is static has neither interpreter nor libraries", async () => {
    expect(await objectOf(elf({ dynamic: false }))).toMatchObject({
      interpreter: undefined,
      dynamic: undefined,
    });
  });

  it("of this machine is read as readelf reads it", async () => {
    for (const file of [process.execPath, "/bin/ls", "/lib/x86_64-linux-gnu/libm.so.6"]) {
      const object = await objectOf(await readFile(file));
      const { stdout } = await promisify(execFile)("readelf", ["-dlW", file]);
      const needed = [...stdout.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]);
      expect(object.dynamic?.needed, file).toEqual(needed);
      expect(object.interpreter, file).toBe(/interpreter: (.*)\]/.exec(stdout)?.[1]);
      const loads = [...stdout.matchAll(/^ +LOAD +(0x\w+) 0x\w+ 0x\w+ (0x\w+)/gm)];
      expect(
        object.segments.filter(({ type }) => type === 1).map(({ start, end }) => [start, end - start]),
      ).toEqual(loads.map(([, start, length]) => [Number(start), Number(length)]));
    }
  });

  it("of 90 MB is read in a few small pieces", async () => {
    const file = await readFile(process.execPath);
    let bytes = 0;
    const read = async (offset: number, length: number) => {
      bytes += length;
      return file.subarray(offset, offset + length);
    };
    expect(isElf(await readElf(read, file.length))).toBe(true);
    expect(bytes).toBeLessThan(128 * 1024);
  });
});

describe("what is no object that could start", () => {
  const good = elf({ interpreter: "/lib/ld.so", needed: ["libc.so.6"] });
  const changed = (change: (file: Buffer) => void) => {
    const file = Buffer.from(good);
    change(file);
    return file;
  };

  it.each<[string, Buffer, string, RegExp]>([
    ["a text", Buffer.from("hello, this is a text"), "other", /does not begin as/],
    ["an empty file", Buffer.alloc(0), "other", /does not begin as/],
    ["a class that is none", changed((file) => file.writeUInt8(3, 4)), "damaged", /class is 3/],
    ["a byte order that is none", changed((file) => file.writeUInt8(0, 5)), "damaged", /byte order is 0/],
    ["a file that ends in its header", good.subarray(0, 40), "damaged", /ends within its header/],
    [
      "program headers of another size",
      changed((file) => file.writeUInt16LE(57, 54)),
      "damaged",
      /57 bytes, not 56/,
    ],
    [
      "too many program headers",
      changed((file) => file.writeUInt16LE(0xffff, 56)),
      "damaged",
      /65535 program headers/,
    ],
    [
      "program headers behind the end",
      changed((file) => file.writeBigUInt64LE(2n ** 63n, 32)),
      "damaged",
      /its program headers end at/,
    ],
    ["a segment behind the end", good.subarray(0, -1), "truncated", /a segment ends at/],
    // The second program header is PT_INTERP: its p_filesz.
    [
      "an interpreter without a name",
      changed((file) => file.writeBigUInt64LE(1n, 64 + 56 + 32)),
      "damaged",
      /interpreter has 1 bytes/,
    ],
    [
      "an interpreter whose name does not end",
      changed((file) => file.writeBigUInt64LE(3n, 64 + 56 + 32)),
      "damaged",
      /does not end/,
    ],
    // The third is PT_DYNAMIC, whose first entry is DT_NEEDED.
    [
      "a name outside the strings",
      changed((file) => file.writeBigUInt64LE(5000n, Number(file.readBigUInt64LE(64 + 112 + 8)) + 8)),
      "unloadable",
      /a name is at 5000/,
    ],
  ])("%s is told as such", async (_, file, kind, found) => {
    expect(await readOf(file)).toMatchObject({ kind, found: expect.stringMatching(found) });
  });

  it("any change of any byte, and any cut, is an object or no object, never an exception", async () => {
    for (let at = 0; at < good.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff]) await readOf(changed((file) => file.writeUInt8(value, at)));
      await readOf(good.subarray(0, at));
    }
  });

  it("a piece that may not be read makes it unread", async () => {
    const read = async (offset: number) => (offset === 0 ? good.subarray(0, 64) : undefined);
    expect(await readElf(read, good.length)).toMatchObject({ kind: "unread" });
  });
});
