/**
 * Tars as other programs write them: GNU tar, bsdtar, Python's tarfile, tar-stream. What the reader says is held against the
 * files that went in, as the kernel sees them.
 */
import { execFile } from "node:child_process";
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import * as tarStream from "tar-stream";
import { beforeAll, describe, expect, test } from "vitest";
import { type ByteString, byteStringFromText, textOf } from "../../src/base/byte-string.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { contentOf, entryAt, readTar } from "./tar-reading.js";

const run = promisify(execFile);
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");

let root: string;
const nonAscii = "\u00e4\u20ac \u{1f600}";
/** Longer than ustar's 255, each name below NAME_MAX. */
const deep = `${"deep".repeat(30)}/${"deeper".repeat(20)}/${"deepest".repeat(10)}`;

beforeAll(async () => {
  root = path.join(await makeTempDir("tar-tools"), "root");
  await mkdir(path.join(root, deep), { recursive: true });
  await writeFile(path.join(root, deep, "f"), "deep content");
  await writeFile(path.join(root, "plain"), Buffer.alloc(100_000, "plain "));
  await writeFile(path.join(root, "empty"), "");
  await writeFile(path.join(root, nonAscii), "name");
  await writeFile(path.join(root, "n".repeat(255)), "long name");
  await chmod(path.join(root, "plain"), 0o4750);
  await link(path.join(root, "plain"), path.join(root, "zhard"));
  await symlink("plain", path.join(root, "soft"));
  await symlink("t/".repeat(200), path.join(root, "softlong"));
  await run("mkfifo", [path.join(root, "fifo")]);
  await run("mknod", [path.join(root, "null"), "c", "1", "3"]);
  await run("chown", ["-h", "12345:23456", path.join(root, "empty"), path.join(root, "soft")]);
  await utimes(path.join(root, "empty"), 1, 1_234_567_890);
});

/** The entries as paths without "./" and trailing slashes, the root left out. */
function byPath(entries: readonly LayerEntry[]): Map<string, LayerEntry> {
  const clean = entries.map((entry) => [entry.path.replace(/^\.\//, "").replace(/\/$/, ""), entry] as const);
  return new Map(clean.filter(([name]) => name !== "" && name !== "."));
}

async function expectLikeRoot(
  tar: Buffer,
  { names = (_name: string): boolean => true, nanoseconds = false } = {},
): Promise<void> {
  const whole = readTar(tar);
  expect(readTar(tar, { pieceBytes: 513 })).toEqual(whole);
  const entries = byPath(whole.entries);
  const expected = ((await readdir(root, { recursive: true })) as string[]).filter(names);
  expect([...entries.keys()].sort()).toEqual(expected.map(byteStringFromText).sort());
  for (const name of expected) {
    const entry = entries.get(byteStringFromText(name))!;
    const file = path.join(root, name);
    const stat = await lstat(file, { bigint: true });
    expect([name, entry.uid, entry.gid]).toEqual([name, Number(stat.uid), Number(stat.gid)]);
    const mtimeNs = BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec);
    expect([name, nanoseconds ? mtimeNs : mtimeNs / 1_000_000_000n]).toEqual([
      name,
      nanoseconds ? stat.mtimeNs : stat.mtimeNs / 1_000_000_000n,
    ]);
    if (entry.type === "hardlink") {
      const target = entries.get(entry.linkTarget.replace(/^\.\//, "") as ByteString)!;
      expect([name, target.type]).toEqual([name, "file"]);
      expect((await lstat(path.join(root, textOf(target.path)!))).ino).toBe(Number(stat.ino));
      continue;
    }
    expect([name, entry.mode]).toEqual([name, Number(stat.mode) & 0o7777]);
    if (stat.isFile()) {
      expect([name, entry.type, contentOf(entry, tar).equals(await readFile(file))]).toEqual([
        name,
        "file",
        true,
      ]);
    } else if (stat.isSymbolicLink()) {
      expect([entry.type, entry.linkTarget]).toEqual(["symlink", await readlink(file)]);
    } else if (stat.isCharacterDevice()) {
      expect([entry.type, entry.deviceMajor, entry.deviceMinor]).toEqual(["character", 1, 3]);
    } else {
      expect([name, entry.type]).toEqual([name, stat.isDirectory() ? "directory" : "fifo"]);
    }
  }
}

async function output(command: string, ...args: string[]): Promise<Buffer> {
  const options = { encoding: "buffer", maxBuffer: 64 * 1024 * 1024 } as const;
  return (await run(command, args, options)).stdout;
}

// What the older formats cannot hold; the tools leave such files out, and say so.
const ustarNames = (name: string) => !/^deep|^n{255}|^softlong/.test(name);

describe("GNU tar", () => {
  test.each(["gnu", "oldgnu", "pax", "posix"])("--format=%s", async (format) => {
    const tar = await output("tar", `--format=${format}`, "-C", root, "-cf", "-", ".");
    await expectLikeRoot(tar, { nanoseconds: format === "pax" || format === "posix" });
  });

  test.each(["ustar", "v7"])("--format=%s, for what fits it", async (format) => {
    // v7 has no devices and no FIFOs.
    const names = (name: string) => ustarNames(name) && (format === "ustar" || !/fifo|null/.test(name));
    const members = (await readdir(root)).filter(names);
    const tar = await output("tar", `--format=${format}`, "-C", root, "-cf", "-", ...members);
    await expectLikeRoot(tar, { names });
  });

  test("ids, times and sizes that octal cannot hold", async () => {
    const big = ["--owner=x:4000000000", "--group=x:3000000000", "--mtime=1890-05-06 07:08:09.5 UTC"];
    for (const format of ["gnu", "pax"]) {
      const tar = await output("tar", `--format=${format}`, ...big, "-C", root, "-cf", "-", "plain");
      expect(entryAt(readTar(tar), "plain")).toMatchObject({
        uid: 4_000_000_000,
        gid: 3_000_000_000,
        mtimeSec: Date.UTC(1890, 4, 6, 7, 8, 9) / 1000,
        mtimeNsec: format === "pax" ? 500_000_000 : 0,
      });
    }
  });

  test.each([
    ["gnu", []],
    ["pax", ["--sparse-version=0.0"]],
    ["pax", ["--sparse-version=0.1"]],
    ["pax", ["--sparse-version=1.0"]],
  ])(
    "--sparse --format=%s %j: a file with 300 pieces, one that ends in a hole, one hole",
    async (format, args) => {
      const dir = await makeTempDir("sparse");
      const file = await open(path.join(dir, "pieces"), "w");
      for (let i = 0; i < 300; i++) await file.write(Buffer.alloc(1000, i % 255), 0, 1000, i * 65536 + 8192);
      await file.close();
      const tail = await open(path.join(dir, "tail"), "w");
      await tail.write(Buffer.alloc(5000, 7), 0, 5000, 1 << 20);
      await tail.truncate(3 << 20);
      await tail.close();
      const hole = await open(path.join(dir, "hole"), "w");
      await hole.truncate(5 << 20);
      await hole.close();
      const tar = await output("tar", "--sparse", `--format=${format}`, ...args, "-C", dir, "-cf", "-", ".");
      expect(tar.length).toBeLessThan(4 << 20);
      const reading = readTar(tar);
      expect(readTar(tar, { pieceBytes: 511 })).toEqual(reading);
      for (const name of ["pieces", "tail", "hole"]) {
        const content = contentOf(entryAt(reading, `./${name}`), tar);
        expect(content.equals(await readFile(path.join(dir, name)))).toBe(true);
      }
      expect(entryAt(reading, "./pieces").extents).toHaveLength(300);
      expect(entryAt(reading, "./hole")).toMatchObject({ fileBytes: 5 << 20, extents: [] });
    },
  );

  test("--xattrs: a file capability and binary user attributes come byte by byte", async () => {
    // Set by the addon: no further package, and a filesystem without user.* fails here and not in a comparison.
    const dir = await makeTempDir("xattrs");
    const file = Buffer.from(path.join(dir, "f"));
    await writeFile(path.join(dir, "f"), "x");
    const native = loadNative();
    const value = Buffer.from("a\n=\0\xff", "latin1");
    native.setXattr(file, Buffer.from("user.binary"), value);
    native.setXattr(file, Buffer.from("security.capability"), capability);
    for (const [tool, ...args] of [
      ["tar", "--xattrs", "--xattrs-include=*", "--format=pax"],
      ["bsdtar", "--xattrs", "--format=pax"],
    ]) {
      const tar = await output(tool!, ...args, "-C", dir, "-cf", "-", "f");
      const { xattrs } = entryAt(readTar(tar), "f");
      expect(
        xattrs.map(({ name, value }) => [name, Buffer.from(value, "latin1").toString("hex")]).sort(),
      ).toEqual([
        ["security.capability", capability.toString("hex")],
        ["user.binary", value.toString("hex")],
      ]);
    }
  });

  test("incremental archives and volume labels", async () => {
    const snapshot = path.join(await makeTempDir("snar"), "snar");
    const tar = await output(
      "tar",
      "--format=gnu",
      "-V",
      "label",
      "-g",
      snapshot,
      "-C",
      root,
      "-cf",
      "-",
      ".",
    );
    await expectLikeRoot(tar);
    expect(readTar(tar).warnings).toEqual([expect.stringMatching(/volume label/)]);
  });
});

describe("bsdtar", () => {
  test.each(["pax", "gnutar"])("--format=%s", async (format) => {
    const tar = await output("bsdtar", `--format=${format}`, "--no-xattrs", "-C", root, "-cf", "-", ".");
    await expectLikeRoot(tar, { nanoseconds: format === "pax" });
  });

  test("--format=ustar, for what fits it", async () => {
    const members = (await readdir(root)).filter(ustarNames);
    const tar = await output("bsdtar", "--format=ustar", "-C", root, "-cf", "-", ...members);
    await expectLikeRoot(tar, { names: ustarNames });
  });

  test("a sparse file in its pax format", async () => {
    const dir = await makeTempDir("sparse");
    const file = await open(path.join(dir, "s"), "w");
    await file.write(Buffer.alloc(4096, 1), 0, 4096, 1 << 20);
    await file.truncate(2 << 20);
    await file.close();
    const tar = await output("bsdtar", "--format=pax", "-C", dir, "-cf", "-", "s");
    expect(tar.length).toBeLessThan(1 << 20);
    expect(contentOf(entryAt(readTar(tar), "s"), tar).equals(await readFile(path.join(dir, "s")))).toBe(true);
  });
});

test.each(["USTAR", "GNU", "PAX"])("Python's tarfile in %s_FORMAT", async (format) => {
  const script = `
import sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.${format}_FORMAT, pax_headers={"comment": "global"} if "${format}" == "PAX" else None)
for name in sys.argv[2:]: out.add(sys.argv[1] + "/" + name, arcname=name)
out.close()`;
  const names = format === "USTAR" ? ustarNames : () => true;
  const members = (await readdir(root)).filter(names);
  await expectLikeRoot(await output("python3", "-c", script, root, ...members), { names });
});

test("tar-stream", async () => {
  const pack = tarStream.pack();
  const long = `${"a".repeat(99)}/${"b".repeat(99)}/${"c".repeat(99)}`;
  pack.entry({ name: "d", type: "directory", mode: 0o1777, mtime: new Date(5000) });
  pack.entry({ name: long, uid: 200_000, pax: { "SCHILY.xattr.user.a": "v" } }, "content");
  pack.entry({ name: "l", type: "symlink", linkname: long });
  pack.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of pack) pieces.push(piece as Buffer);
  const tar = Buffer.concat(pieces);
  const reading = readTar(tar);
  expect(reading.entries.map(({ path: name, type }) => [name, type])).toEqual([
    ["d", "directory"],
    [long, "file"],
    ["l", "symlink"],
  ]);
  expect(entryAt(reading, "d")).toMatchObject({ mode: 0o1777, mtimeSec: 5 });
  expect(entryAt(reading, long)).toMatchObject({ uid: 200_000, xattrs: [{ name: "user.a", value: "v" }] });
  expect(contentOf(entryAt(reading, long), tar).toString()).toBe("content");
  expect(entryAt(reading, "l").linkTarget).toBe(long);
});
