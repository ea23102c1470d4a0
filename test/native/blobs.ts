/** Compressed layers of every kind that tools write, and the bytes they hold. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

const packageDir = path.resolve(import.meta.dirname, "../..");

/** A small generator of random numbers (mulberry32): 32-bit integers, the same for the same seed. */
export function randomIntegers(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

export function randomBytes(length: number, seed: number): Buffer {
  const random = randomIntegers(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random(256)));
}

/** About 1 MB as layers have it: text, machine code, zeros, noise, and text again that was seen before. */
export function layerBytes(): Buffer {
  const typesDir = path.join(packageDir, "node_modules/@types/node");
  const text = Buffer.concat(
    readdirSync(typesDir)
      .filter((name) => name.endsWith(".d.ts"))
      .sort()
      .map((name) => readFileSync(path.join(typesDir, name))),
  ).subarray(0, 400_000);
  const code = readFileSync(process.execPath).subarray(40_000_000, 40_300_000);
  return Buffer.concat([
    text,
    code,
    Buffer.alloc(150_000),
    randomBytes(60_000, 1),
    text.subarray(200_000, 300_000),
  ]);
}

export interface HeaderFields {
  readonly extra?: Buffer;
  readonly name?: Buffer;
  readonly comment?: Buffer;
  readonly headerCrc?: boolean;
}

/** A gzip member around a raw deflate stream of `data` (RFC 1952). */
export function gzipMember(data: Buffer, deflated: Buffer, fields: HeaderFields = {}): Buffer {
  const { extra, name, comment, headerCrc } = fields;
  const flags = (headerCrc ? 2 : 0) | (extra ? 4 : 0) | (name ? 8 : 0) | (comment ? 16 : 0);
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3])];
  if (extra) parts.push(Buffer.from([extra.length & 255, extra.length >> 8]), extra);
  if (name) parts.push(name, Buffer.alloc(1));
  if (comment) parts.push(comment, Buffer.alloc(1));
  let header: Buffer = Buffer.concat(parts);
  if (headerCrc) {
    const crc = Buffer.alloc(2);
    crc.writeUInt16LE(crc32(header) & 0xffff);
    header = Buffer.concat([header, crc]);
  }
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(data));
  trailer.writeUInt32LE(data.length % 2 ** 32, 4);
  return Buffer.concat([header, deflated, trailer]);
}

/** CRC-32 out of a gzip trailer: node 20 has no function for it. */
export function crc32(data: Buffer): number {
  const member = zlib.gzipSync(data, { level: 0 });
  return member.readUInt32LE(member.length - 8);
}

export const fixedHuffman = (data: Buffer) => zlib.deflateRawSync(data, { strategy: zlib.constants.Z_FIXED });

/** `data` in members of `memberBytes` each, as eStargz has one for each file. */
export function gzipMembers(data: Buffer, memberBytes: number): Buffer {
  const members: Buffer[] = [];
  for (let at = 0; at < data.length; at += memberBytes)
    members.push(zlib.gzipSync(data.subarray(at, at + memberBytes)));
  return Buffer.concat(members);
}

/** Output of a program that filters standard input; it must be installed (`debianPackage`). */
export function filtered(
  debianPackage: string,
  command: string,
  args: readonly string[],
  input: Buffer,
): Buffer {
  try {
    return execFileSync(command, args, { input, maxBuffer: 1 << 28, stdio: ["pipe", "pipe", "ignore"] });
  } catch (cause) {
    throw new Error(`${command} failed; is it installed? apt-get install -y ${debianPackage}`, { cause });
  }
}

const gnuGzip = (data: Buffer, ...args: string[]) => filtered("gzip", "gzip", ["-nc", ...args], data);
const pigz = (data: Buffer, blockKiB: number) =>
  filtered("pigz", "pigz", ["-nc", "-p2", "-b", `${blockKiB}`], data);
export const zstd = (data: Buffer, ...args: string[]) => filtered("zstd", "zstd", ["-qc", ...args], data);

/** A frame that carries no data of the layer (RFC 8878, 3.1.2). */
export function skippableFrame(content: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184d2a5e);
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}

/** `data` in zstd frames of `frameBytes` each. */
export function zstdFrames(data: Buffer, frameBytes: number): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < data.length; at += frameBytes)
    frames.push(zstd(data.subarray(at, at + frameBytes), "-3"));
  return Buffer.concat(frames);
}

/** Every way to gzip that real tools use, by name: the blob for the bytes. */
export const gzipVariants: Readonly<Record<string, (data: Buffer) => Buffer>> = {
  ...Object.fromEntries(
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((level) => [
      `level ${level}`,
      (data: Buffer) => zlib.gzipSync(data, { level }),
    ]),
  ),
  "stored blocks only": (data) => zlib.gzipSync(data, { level: 0, memLevel: 9 }),
  "huffman only": (data) => zlib.gzipSync(data, { strategy: zlib.constants.Z_HUFFMAN_ONLY }),
  "fixed huffman": (data) => gzipMember(data, fixedHuffman(data)),
  "run lengths only": (data) => zlib.gzipSync(data, { strategy: zlib.constants.Z_RLE }),
  "small deflate blocks": (data) => zlib.gzipSync(data, { memLevel: 1 }),
  "a window of 512 bytes": (data) => zlib.gzipSync(data, { windowBits: 9 }),
  "a name": (data) => gzipMember(data, zlib.deflateRawSync(data), { name: Buffer.from("layer.tar") }),
  "a comment": (data) =>
    gzipMember(data, zlib.deflateRawSync(data), { comment: Buffer.from("\xe9 comment") }),
  "an extra field": (data) =>
    gzipMember(data, zlib.deflateRawSync(data), { extra: Buffer.alloc(65535, 0x1f) }),
  "a header crc": (data) => gzipMember(data, zlib.deflateRawSync(data), { headerCrc: true }),
  "all header fields": (data) =>
    gzipMember(data, zlib.deflateRawSync(data), {
      extra: randomBytes(300, 2),
      name: Buffer.alloc(5000, "n"),
      comment: Buffer.alloc(70_000, "c"),
      headerCrc: true,
    }),
  "GNU gzip": (data) => gnuGzip(data),
  "GNU gzip --rsyncable": (data) => gnuGzip(data, "--rsyncable"),
  "pigz with 64 KiB blocks": (data) => pigz(data, 64),
  "pigz with 256 KiB blocks": (data) => pigz(data, 256),
  "pigz with 1 MiB blocks": (data) => pigz(data, 1024),
  "a member for each file": (data) => gzipMembers(data, 7777),
  "members longer than a span": (data) => gzipMembers(data, 333_333),
  "members of one byte at the front": (data) =>
    Buffer.concat([gzipMembers(data.subarray(0, 300), 1), zlib.gzipSync(data.subarray(300))]),
  "an empty member in the middle": (data) =>
    Buffer.concat([
      zlib.gzipSync(data.subarray(0, 200_000)),
      zlib.gzipSync(Buffer.alloc(0)),
      zlib.gzipSync(data.subarray(200_000)),
    ]),
  "empty members at both ends": (data) =>
    Buffer.concat([
      zlib.gzipSync(Buffer.alloc(0)),
      zlib.gzipSync(data),
      zlib.gzipSync(Buffer.alloc(0)),
      zlib.gzipSync(Buffer.alloc(0), { level: 0 }),
    ]),
};
