import { readFileSync } from "node:fs";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { directory, file, node, raw, symlink, xattr } from "../archive/sample-archive.js";
import type { DescribedTree } from "../support/write-tree.js";

/** Bytes that tell where they are: every 8 bytes are their own position, times a prime. `pattern` in pattern.py has the same. */
const layer = Buffer.alloc(3 * 1024 * 1024);
for (let at = 0; at < layer.length; at += 8) layer.writeBigUInt64LE(BigInt(at * 2_654_435_761), at);

/** The same in Python: bytes `start` to `end` of the layer. */
export const patternSource = `
import array
def pattern(start, end):
    step = 8 * 2654435761
    whole = array.array("Q", range((start >> 3) * step, -(-end // 8) * step, step)).tobytes()
    return whole[start & 7 : (start & 7) + end - start]
`;

/** Of files/plain. Odd on purpose. */
export const plainBytes = 2_500_003;
/** Of files/huge, and where it has 8 bytes of data each; the bytes are those of the layer at 800, 1600 and 2400. */
export const hugeBytes = 5 * 2 ** 30 + 8;
export const hugePlaces = [2 ** 31 - 4, 2 ** 32 - 4, 5 * 2 ** 30] as const;
/** Extents of files/sparse: where in the file, where in the layer, how long; zeros elsewhere. */
export const sparseBytes = 700_001;
export const sparseExtents = [
  [100_001, 8000, 4096],
  [300_000, 16_000, 131_073],
] as const;

export const longName = "n".repeat(255);
export const longTarget = `${"t/".repeat(2047)}t`;
export const crowdNames = Array.from({ length: 10_000 }, (_, i) => `entry-${i}-${"x".repeat(i % 40)}`);
/** UTF-8, one character a byte. */
export const oddNames = [
  "-rf",
  " ",
  "...",
  "*",
  "a\nb\tc",
  "back\\slash",
  "Case",
  "case",
  // é composed and decomposed: two names for those who compare bytes.
  "\xc3\xa9",
  "e\xcc\x81",
  "\xe2\x98\x83",
];
/** Names no encoding explains. */
export const byteNames = ["caf\xe9", "\xff\xfe", "\xed\xa0\x80"];
/** As many symbolic links as the kernel follows in one path (MAXSYMLINKS), and the one that is too many: `chain/40`. */
export const chainLinks = 41;

export const value64K = "v\0w\xff".repeat(16 * 1024);
/** struct vfs_cap_data, version 2: cap_net_bind_service, permitted and effective. */
export const capability = "\x01\0\0\x02\0\x04\0\0".padEnd(20, "\0");
/** Version 2; rw for the owner, r for user 1234, r for the group, mask r, nothing for others; 0640 in the mode. */
export const acl = Buffer.from(
  "02000000 01000600ffffffff 02000400d2040000 04000400ffffffff 10000400ffffffff 20000000ffffffff".replaceAll(
    " ",
    "",
  ),
  "hex",
).toString("latin1");

const program = readFileSync("/usr/bin/id");
const script = Buffer.from('#!/bin/sh\necho "script $1"\n');

const programFile = (fields: Partial<TreeNode>) =>
  node("file", {
    fileBytes: program.length,
    extents: [{ fileOffset: 0, layerOffset: layer.length, length: program.length }],
    ...fields,
  });

/** What every check looks at. Times are whole milliseconds after 1970 but in times/. */
export function posixTree(): DescribedTree {
  const linked = file(8, 1000, { mode: 0o640, uid: 70_000, gid: 80_000 });
  const root = directory(
    {
      types: directory({
        file: file(0, 12_345, { mode: 0o644, uid: 1, gid: 2 }),
        directory: directory({ one: directory(), two: directory(), f: file(0, 1) }, { mode: 0o750, uid: 3 }),
        symlink: node("symlink", { mode: 0o777, linkTarget: raw("file"), uid: 4, gid: 5 }),
        fifo: node("fifo", { mode: 0o622, gid: 6 }),
        null: node("character", { mode: 0o666, deviceMajor: 1, deviceMinor: 3 }),
        unknown: node("character", { mode: 0o600, deviceMajor: 4095, deviceMinor: 1_048_575 }),
        block: node("block", {
          mode: 0o660,
          uid: 4_000_000_000,
          gid: 4_294_967_294,
          deviceMajor: 4095,
          deviceMinor: 300,
        }),
        setuid: file(0, 1, { mode: 0o4711 }),
        setgid: file(0, 1, { mode: 0o2755, gid: 33 }),
        sticky: directory({}, { mode: 0o1777, mtimeSec: 5, mtimeNsec: 250_000_000 }),
        inherits: directory({}, { mode: 0o2775, gid: 33 }),
        nobody: file(0, 1, { mode: 0 }),
      }),
      links: directory({
        first: linked,
        second: linked,
        elsewhere: directory({ third: linked }),
        other: file(8, 1000),
      }),
      times: directory({
        nanoseconds: file(0, 1, { mtimeSec: 1_600_000_000, mtimeNsec: 123_456_789 }),
        milliseconds: file(0, 1, { mtimeSec: 1_600_000_000, mtimeNsec: 987_000_000 }),
        before1970: file(0, 1, { mtimeSec: -1_000_000_000, mtimeNsec: 250_000_000 }),
        after2038: file(0, 1, { mtimeSec: 5_000_000_000 }),
        zero: file(0, 1, { mtimeSec: 0 }),
      }),
      files: directory({
        plain: file(0, plainBytes),
        empty: file(0, 0),
        small: file(16, 100),
        page: file(0, 4096),
        hole: node("file", { fileBytes: 1_000_000 }),
        sparse: node("file", {
          fileBytes: sparseBytes,
          extents: sparseExtents.map(([fileOffset, layerOffset, length]) => ({
            fileOffset,
            layerOffset,
            length,
          })),
        }),
        huge: node("file", {
          fileBytes: hugeBytes,
          extents: hugePlaces.map((fileOffset, i) => ({ fileOffset, layerOffset: 800 * (i + 1), length: 8 })),
        }),
      }),
      names: directory({
        [longName]: file(0, 1),
        ...Object.fromEntries(oddNames.map((name) => [name, file(0, name.length)])),
      }),
      bytes: directory({
        ...Object.fromEntries(byteNames.map((name) => [name, file(0, name.length)])),
        link: symlink("caf\xe9"),
      }),
      crowd: directory(
        Object.fromEntries(crowdNames.map((name, i) => [name, i % 100 === 0 ? symlink(name) : file(0, 0)])),
      ),
      empty: directory(),
      symlinks: directory({
        toFile: symlink("../files/small"),
        toDirectory: symlink("../types"),
        toLink: symlink("toFile"),
        dangling: symlink("nowhere/at all"),
        absolute: symlink("/files/small"),
        outside: symlink("../../../../../../../../../../files/small"),
        long: symlink(longTarget),
        unicode: symlink("\xe2\x98\x83"),
        self: symlink("self"),
        ping: symlink("pong"),
        pong: symlink("ping"),
        chain: directory({
          0: symlink("../../files/small"),
          ...Object.fromEntries(Array.from({ length: chainLinks - 1 }, (_, i) => [i + 1, symlink(`${i}`)])),
        }),
      }),
      permissions: directory({
        secret: file(0, 10, { mode: 0o600 }),
        group: file(0, 10, { mode: 0o640, gid: 4242 }),
        own: file(0, 10, { mode: 0o400, uid: 1234, gid: 1234 }),
        shut: file(0, 10, { mode: 0o077, uid: 1234, gid: 1234 }),
        closed: directory({ inside: file(0, 10) }, { mode: 0o700 }),
        pass: directory({ inside: file(0, 10) }, { mode: 0o711 }),
        look: directory({ inside: file(0, 10) }, { mode: 0o744 }),
      }),
      bin: directory({
        id: programFile({ mode: 0o755 }),
        asOwner: programFile({ mode: 0o4755, uid: 12_345 }),
        asGroup: programFile({ mode: 0o2755, gid: 23_456 }),
        plain: programFile({ mode: 0o644 }),
        script: node("file", {
          mode: 0o755,
          fileBytes: script.length,
          extents: [{ fileOffset: 0, layerOffset: layer.length + program.length, length: script.length }],
        }),
      }),
      xattrs: directory(
        {
          file: file(0, 10, {
            xattrs: [
              xattr("security.capability", capability),
              xattr("trusted.t", "of root"),
              xattr("user.binary", "\x00\xff\x00"),
              xattr("user.empty", ""),
              xattr("user.large", value64K),
              xattr(`user.${"x".repeat(250)}`, "long name"),
            ],
          }),
          link: node("symlink", {
            mode: 0o777,
            linkTarget: raw("file"),
            xattrs: [xattr("trusted.link", "of the link")],
          }),
          acl: file(0, 10, { mode: 0o640, xattrs: [xattr("system.posix_acl_access", acl)] }),
          secret: file(0, 10, { mode: 0o600, xattrs: [xattr("user.secret", "s")] }),
          plain: file(0, 1),
        },
        { xattrs: [xattr("user.dir", "d")] },
      ),
    },
    { mode: 0o755, uid: 7, gid: 8, mtimeSec: 1_500_000_000 },
  );
  return { root, bytes: Buffer.concat([layer, program, script]) };
}
