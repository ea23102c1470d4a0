import { chmod, readFile } from "node:fs/promises";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { directory, file, node, raw, symlink, xattr } from "../archive/sample-archive.js";
import type { EngineName } from "../support/engines.js";
import { FuseServer, makeImage, python } from "../support/fuse-mount.js";

export const GiB = 1024 ** 3;

/** Bytes that tell where they are: every 8 bytes hold their own position. */
export const layer = Buffer.alloc(3 * 1024 * 1024);
for (let at = 0; at < layer.length; at += 8) layer.writeBigUInt64LE(BigInt(at * 2654435761), at);

export const longName = "n".repeat(255);
export const unicodeName = "naïve\nName ☃ \\";
export const longTarget = `${"t/".repeat(2047)}t`;
export const manyNames = Array.from({ length: 20_000 }, (_, i) => `entry-${i}-${"x".repeat(i % 40)}`);
export const value64K = "v\0w\xff".repeat(16 * 1024);

/** An image with something of everything, and the bytes of its layer: `layer`, then those of the program id. */
async function semanticsTree(): Promise<{ root: TreeNode; bytes: Buffer }> {
  const id = await readFile("/usr/bin/id");
  const linked = file(8, 1000, { mode: 0o640, uid: 70_000, gid: 4_000_000_000, mtimeNsec: 987_654_321 });
  const root = directory(
    {
      attributes: directory(
        {
          first: linked,
          second: linked,
          sticky: directory({}, { mode: 0o1777, mtimeSec: 5, mtimeNsec: 250_000_000 }),
          setgid: directory({ inner: directory() }, { mode: 0o2755, gid: 33 }),
          old: file(0, 1, { mtimeSec: -1_000_000_000 }),
          far: file(0, 1, { mtimeSec: 5_000_000_000 }),
          secret: file(0, 10, { mode: 0o600 }),
          closed: directory({ inside: file(0, 1) }, { mode: 0o700 }),
        },
        { mode: 0o755, mtimeSec: 1_234_567_890 },
      ),
      bin: directory({
        id: node("file", {
          mode: 0o4755,
          uid: 12_345,
          fileBytes: id.length,
          extents: [{ fileOffset: 0, layerOffset: layer.length, length: id.length }],
        }),
      }),
      dev: directory({
        null: node("character", { mode: 0o666, deviceMajor: 1, deviceMinor: 3 }),
        high: node("block", { mode: 0o660, deviceMajor: 4095, deviceMinor: 1_048_575 }),
        fifo: node("fifo", { mode: 0o622 }),
      }),
      names: directory({
        [longName]: file(0, 1),
        [Buffer.from(unicodeName).toString("latin1")]: file(16, 8),
        "caf\xe9": file(0, 1),
        "really \xef\xbf\xbd": file(0, 1),
        "caf\xe9 directory": directory({ inside: file(0, 1) }),
      }),
      links: directory({
        plain: symlink("../bin/id"),
        absolute: symlink("/nowhere"),
        long: symlink(longTarget),
        latin1: symlink("caf\xe9"),
        utf8: symlink(Buffer.from("☃").toString("latin1")),
      }),
      many: directory(Object.fromEntries(manyNames.map((name) => [name, file(0, 0)]))),
      empty: directory(),
      files: directory({
        plain: file(0, layer.length - 5),
        empty: file(0, 0),
        hole: node("file", { fileBytes: 1_000_000 }),
        sparse: node("file", {
          fileBytes: 500_000,
          extents: [
            { fileOffset: 100_001, layerOffset: 8000, length: 4096 },
            { fileOffset: 300_000, layerOffset: 16_000, length: 131_073 },
          ],
        }),
        huge: node("file", {
          fileBytes: 5 * GiB + 7,
          extents: [
            { fileOffset: 2 * GiB - 4, layerOffset: 800, length: 8 },
            { fileOffset: 4 * GiB - 4, layerOffset: 1600, length: 8 },
            { fileOffset: 5 * GiB, layerOffset: 2400, length: 7 },
          ],
        }),
      }),
      xattrs: directory(
        {
          file: file(0, 10, {
            xattrs: [
              xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00".padEnd(20, "\x00")),
              xattr("user.binary", "\x00\xff\x00"),
              xattr("user.empty", ""),
              xattr("user.large", value64K),
            ],
          }),
          link: node("symlink", {
            mode: 0o777,
            linkTarget: raw("file"),
            xattrs: [xattr("trusted.link", "of the link")],
          }),
          plain: file(0, 1),
        },
        { xattrs: [xattr("user.dir", "d")] },
      ),
    },
    { mode: 0o711, uid: 7, gid: 8, mtimeSec: 1_500_000_000 },
  );
  return { root, bytes: Buffer.concat([layer, id]) };
}

/** Mounts that image; `dir` is let open to readers that are not root. */
export async function mountSemanticsImage(dir: string, engine: EngineName): Promise<FuseServer> {
  await chmod(dir, 0o755);
  const { root, bytes } = await semanticsTree();
  return FuseServer.mount({ ...(await makeImage(dir, root, bytes)), engine, fsName: "registry/app,v1:x\\y" });
}

/** The errno of each Python expression, 0 where it succeeds; `m` in them is the mount. */
export function errnos(mount: string, expressions: readonly string[]): Promise<number[]> {
  const source = `
import os, sys, json, mmap, fcntl, socket, stat, ctypes
m = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
def answer(expression):
    try:
        eval(expression)
    except OSError as error:
        return error.errno
    return 0
print(json.dumps([answer(e) for e in json.loads(sys.argv[2])]))`;
  return python<number[]>(source, mount, JSON.stringify(expressions));
}
