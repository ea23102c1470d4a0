import { readFileSync } from "node:fs";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import zlib from "node:zlib";
import { describe, expect, it } from "vitest";
import { Compression, type ScannerHandle } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";

const native = loadNative();
const packageDir = path.resolve(import.meta.dirname, "../..");

it("binding.ts documents exactly what addon.cc exports", () => {
  const source = readFileSync(path.join(packageDir, "src/native/binding.ts"), "utf8");
  const body = /export interface NativeBinding \{(.*?)\n\}/s.exec(source)![1]!;
  const documented = [...body.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]!);
  expect(documented.length).toBeGreaterThan(5);
  expect(Object.keys(native).sort()).toEqual(documented.sort());
});

it("addon.cc has one export a line", () => {
  const source = readFileSync(path.join(packageDir, "native/addon.cc"), "utf8");
  const exported = [...source.matchAll(/^ {2}add<\S+>\(exports, "(\w+)"\);$/gm)].map((match) => match[1]!);
  expect(exported.sort()).toEqual(Object.keys(native).sort());
});

const coded = (code: string) => expect.objectContaining({ code });
// biome-ignore lint/suspicious/noExplicitAny: calls that TypeScript would not let through
const loose = native as any;

describe("a call that binding.ts does not allow throws and does no harm", () => {
  it("another type", () => {
    const scanner = native.scannerOpen(Compression.gzip, 65536);
    expect(() => loose.scannerOpen("gzip", 65536)).toThrow(coded("ERR_INVALID_ARG_TYPE"));
    expect(() => loose.scannerWrite(scanner, "text")).toThrow(coded("ERR_INVALID_ARG_TYPE"));
    expect(() => loose.scannerWrite(scanner, new Uint16Array(2))).toThrow(coded("ERR_INVALID_ARG_TYPE"));
    expect(() => loose.scannerRead(scanner)).toThrow(coded("ERR_INVALID_ARG_TYPE"));
    expect(() => loose.decoderOpen(1, null, null)).toThrow(coded("ERR_INVALID_ARG_TYPE"));
    expect(() => loose.mount("a", "b", "c", 0)).toThrow(coded("ERR_INVALID_ARG_TYPE"));
  });

  it("another range", () => {
    for (const spanBytes of [
      1,
      1023,
      16 * 1024 * 1024 + 1,
      1.5e5 + 0.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
    ])
      expect(() => native.scannerOpen(Compression.gzip, spanBytes)).toThrow(coded("ERR_OUT_OF_RANGE"));
    expect(() => native.scannerOpen(3, 65536)).toThrow(coded("ERR_OUT_OF_RANGE"));
  });

  it("something else for a handle", () => {
    const scanner = native.scannerOpen(Compression.gzip, 65536);
    for (const other of [undefined, null, {}, 1, scanner, Buffer.alloc(8)])
      expect(() => loose.decoderNext(other)).toThrow(coded("ERR_INVALID_ARG_TYPE"));
  });

  it("a second call while one is under way", async () => {
    const scanner = native.scannerOpen(Compression.gzip, 65536);
    native.scannerWrite(scanner, zlib.gzipSync(Buffer.alloc(1_000_000)));
    const output = Buffer.alloc(2_000_000);
    const reading = native.scannerRead(scanner, output);
    expect(() => native.scannerRead(scanner, output)).toThrow(coded("ERR_INVALID_STATE"));
    expect(() => native.scannerWrite(scanner, output)).toThrow(coded("ERR_INVALID_STATE"));
    expect(() => native.scannerFinish(scanner)).toThrow(coded("ERR_INVALID_STATE"));
    expect(await reading).toBe(1_000_000);
    expect(await native.scannerRead(scanner, output)).toBe(0);
    await native.scannerFinish(scanner);
    await expect(native.scannerFinish(scanner)).rejects.toEqual(coded("ERR_INVALID_STATE"));
    await expect(native.scannerRead(scanner, output)).rejects.toEqual(coded("ERR_INVALID_STATE"));
  });

  it("another piece before one is used up", async () => {
    const scanner = native.scannerOpen(Compression.none, 65536);
    native.scannerWrite(scanner, Buffer.alloc(10));
    expect(() => native.scannerWrite(scanner, Buffer.alloc(10))).toThrow(coded("ERR_INVALID_STATE"));
    expect(() => native.scannerRead(scanner, Buffer.alloc(0))).toThrow(coded("ERR_INVALID_STATE"));
    await expect(native.scannerFinish(scanner)).rejects.toEqual(coded("ERR_INVALID_STATE"));
  });
});

it("handles and what they were given can be dropped at any time", async () => {
  const blob = zlib.gzipSync(Buffer.alloc(3_000_000, "abc"));
  const pending: Promise<unknown>[] = [];
  for (let turn = 0; turn < 300; turn++) {
    const scanner: ScannerHandle = native.scannerOpen(Compression.gzip, 65536);
    native.scannerWrite(scanner, Buffer.from(blob));
    if (turn % 3 !== 0) pending.push(native.scannerRead(scanner, Buffer.alloc(100_000)));
    if (turn % 50 === 0) await setImmediate();
  }
  expect(await Promise.all(pending)).toEqual(Array(200).fill(100_000));
});
