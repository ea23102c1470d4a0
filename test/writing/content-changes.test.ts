import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ByteString } from "../../src/base/byte-string.js";
import { engines } from "../support/engines.js";
import { look } from "../support/look.js";
import { makeTempDir } from "../support/temp-dir.js";
import type { DumpLine } from "../support/tree-dump.js";
import { changesSince, type Rootfs, viewOf, WritingPlace } from "./writable-rootfs.js";
import { bigBytes, mtimeSec, noise, textFile, treeFileBytes } from "./writing-image.js";

const exec = promisify(execFile);

const sha = (bytes: string | Buffer) => createHash("sha256").update(bytes).digest("hex");
const big = noise("big", bigBytes);

/** Names that every program below has: `at` a name of the rootfs, `digest` of what a name or a descriptor has, `put` bytes in a file. */
const names = `
at = lambda name: root + b"/" + raw(name)
def digest(name):
    with open(at(name), "rb") as f: return sha(f.read())
def put(name, data, mode="wb"):
    with open(at(name), mode) as f: f.write(data)
`;

describe.each(engines)("changing the content of a rootfs, with engine %s", (engine) => {
  let place: WritingPlace;
  let rootfs: Rootfs;
  let lowerBefore: DumpLine[];
  let pristine: DumpLine[];

  /** Runs a program on the merged view. Each change below has files of its own, and all of them stay for what is asked afterwards. */
  const change = async <Told = unknown>(source: string, ...args: unknown[]) =>
    await look<Told>(`${names}${dedent(source)}`, rootfs.merged, ...args);

  beforeAll(async () => {
    place = await WritingPlace.open();
    rootfs = await place.mount("changed", "--engine", engine);
    lowerBefore = await viewOf(rootfs.lower);
    pristine = await viewOf(rootfs.merged);
  });

  afterAll(async () => {
    await place.close();
  });

  it("begins with the image as it is", async () => {
    expect(await changesSince(lowerBefore, rootfs.merged)).toEqual([]);
    expect(lowerBefore.find((line) => line.path === "files/big")?.sha256).toBe(sha(big));
  });

  it("creates files and directories, beside and in place of what is not there any more", async () => {
    const told = await change(`
      os.mkdir(at("made")); os.mkdir(at("made/below")); put("made/below/file", b"made")
      put("files/made", b"made too")
      tell([digest("made/below/file"), digest("files/made"), outcome(lambda: os.mkdir(at("files")))])`);
    expect(told).toEqual([sha("made"), sha("made too"), "EEXIST"]);
  });

  it("appends", async () => {
    const told = await change(`
      put("files/append", b"and more\\n", "ab")
      s = os.stat(at("files/append"))
      tell([digest("files/append"), s.st_size])`);
    expect(told).toEqual([sha(`${textFile}and more\n`), textFile.length + 9]);
  });

  it("truncates to shorter, to longer with zeros, to nothing, and by opening", async () => {
    const told = await change(`
      os.truncate(at("files/cut"), 5)
      os.truncate(at("files/grow"), 100_000)
      os.truncate(at("files/truncated"), 0)
      with opened(at("files/small"), os.O_WRONLY | os.O_TRUNC) as fd: os.write(fd, b"x")
      tell([digest("files/" + name) for name in ["cut", "grow", "truncated", "small"]])`);
    const grown = Buffer.alloc(100_000);
    grown.write(textFile);
    expect(told).toEqual([textFile.slice(0, 5), grown, "", "x"].map(sha));
  });

  it("writes in the middle of a large file, and keeps the rest", async () => {
    const told = await change(`
      with opened(at("files/big"), os.O_RDWR) as fd:
          os.pwrite(fd, b"changed", 500_000)
          os.fsync(fd)
      tell(digest("files/big"))`);
    const expected = Buffer.from(big);
    expected.write("changed", 500_000);
    expect(told).toBe(sha(expected));
  });

  it("renames a new file over one of the image, as editors and package managers save", async () => {
    const told = await change(`
      put("files/over.new", b"saved")
      os.rename(at("files/over.new"), at("files/over"))
      tell([digest("files/over"), os.path.exists(at("files/over.new"))])`);
    expect(told).toEqual([sha("saved"), false]);
  });

  it("removes a directory of the image with all in it; made again it is empty", async () => {
    await exec("rm", ["-rf", path.join(rootfs.merged, "tree/d0")]);
    const told = await change(`
      gone = outcome(lambda: os.stat(at("tree/d0")) and None)
      os.mkdir(at("tree/d0"))
      put("tree/d0/f1", b"new")
      tell([gone, os.listdir(at("tree/d0")), outcome(lambda: digest("tree/d0/f0")), digest("tree/d0/f1")])`);
    expect(told).toEqual(["ENOENT", ["f1"], "ENOENT", sha("new")]);
  });

  it("renames a directory of the image with what is in it; at the old name a new one is empty", async () => {
    const told = await change(`
      os.rename(at("tree/d1"), at("moved"))
      put("moved/f0", b"after the move")
      os.unlink(at("moved/f1"))
      os.mkdir(at("tree/d1"))
      tell([sorted(os.listdir(at("moved"))), digest("moved/f0"), digest("moved/f2"), os.listdir(at("tree/d1"))])`);
    const left = ["f0", "f2", "f3", "f4", "f5", "f6", "f7"];
    expect(told).toEqual([left, sha("after the move"), sha(noise("tree/d1/f2", treeFileBytes)), []]);
  });

  it("makes hard links to files of the image and to new ones: one inode, all names counted", async () => {
    const told = await change(`
      put("files/upper", b"upper")
      def linked(old, new):
          os.link(at(old), at(new))
          return [os.stat(at(old)).st_nlink, os.stat(at(new)).st_nlink, os.path.samefile(at(old), at(new)), digest(new)]
      tell([linked("files/linked", "files/linked2"), linked("files/upper", "made-link")])`);
    expect(told).toEqual([
      [2, 2, true, sha(textFile)],
      [2, 2, true, sha("upper")],
    ]);
  });

  it("shows through all hard links made here what is written through one", async () => {
    const told = await change(`
      put("files/linked", b"more", "ab"); put("made-link", b"more", "ab")
      tell([[digest(name), os.stat(at(name)).st_nlink] for name in ["files/linked", "files/linked2", "files/upper", "made-link"]])`);
    const image = [sha(`${textFile}more`), 2];
    const made = [sha("uppermore"), 2];
    expect(told).toEqual([image, image, made, made]);
  });

  it("parts the name that is written from the other names of a hard-linked file of the image", async () => {
    const told = await change(`
      put("links/one", b"parted", "ab")
      same = lambda a, b: os.path.samefile(at(a), at(b))
      tell([digest("links/one"), digest("links/two"), digest("links/symlink"), same("links/one", "links/two"), same("links/two", "links/three")])`);
    const bytes = noise("hard", treeFileBytes);
    const parted = sha(Buffer.concat([bytes, Buffer.from("parted")]));
    expect(told).toEqual([parted, sha(bytes), parted, false, true]);
  });

  it("makes symlinks to files of the image and to new ones, and replaces the image's", async () => {
    const told = await change(`
      put("links/new", b"new")
      os.symlink("new", at("links/to-new"))
      os.symlink("../files/tagged", at("links/to-image"))
      os.unlink(at("links/dangling"))
      os.symlink("two", at("links/dangling"))
      tell([digest("links/" + name) for name in ["to-new", "to-image", "dangling"]])`);
    expect(told).toEqual([sha("new"), sha(textFile), sha(noise("hard", treeFileBytes))]);
  });

  it("has files without a name (O_TMPFILE), which get one by linking", async () => {
    const told = await change(`
      with opened(at("files"), os.O_TMPFILE | os.O_RDWR, mode=0o640) as fd:
          os.write(fd, b"nameless")
          before = os.fstat(fd).st_nlink
          # os.link follows no symlink, whatever it is told: AT_SYMLINK_FOLLOW is 0x400.
          checked(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, at("files/named"), 0x400))
      with opened(at("files"), os.O_TMPFILE | os.O_RDWR): pass
      s = os.stat(at("files/named"))
      tell([before, digest("files/named"), s.st_nlink, oct(s.st_mode)])`);
    expect(told).toEqual([0, sha("nameless"), 1, "0o100640"]);
  });

  it("takes writes through shared mappings", async () => {
    const told = await change(`
      with opened(at("files/mapped"), os.O_RDWR) as fd:
          with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as m:
              m[0:5] = b"HELLO"
              m.flush()
      tell(digest("files/mapped"))`);
    expect(told).toBe(sha(textFile.replace("hello", "HELLO")));
  });

  it("runs programs: the image's, with changed metadata, and a changed copy", async () => {
    const told = await change(`
      import subprocess, shutil
      run = lambda name: subprocess.run([at(name), "echo", name], stdout=subprocess.PIPE, check=True).stdout
      before = run("bin/busybox")
      os.chmod(at("bin/busybox"), 0o711); os.utime(at("bin/busybox"), (1, 1))
      metadata = run("bin/busybox")
      os.mkdir(at("opt")); shutil.copyfile(at("bin/busybox"), at("opt/busybox")); os.chmod(at("opt/busybox"), 0o755)
      tell([before, metadata, run("opt/busybox")])`);
    expect(told).toEqual(["bin/busybox\n", "bin/busybox\n", "opt/busybox\n"]);
  });

  it("sets, replaces and removes extended attributes of the image's files; the content stays", async () => {
    const told = await change(`
      p = at("files/tagged")
      os.setxattr(p, "user.note", b"changed")
      os.setxattr(p, "user.added", b"\\0\\1")
      os.removexattr(p, "user.other")
      gone = outcome(lambda: os.removexattr(p, "user.other"))
      tell([{name: os.getxattr(p, name) for name in os.listxattr(p)}, gone, digest("files/tagged")])`);
    expect(told).toEqual([{ "user.note": "changed", "user.added": "\0\x01" }, "ENODATA", sha(textFile)]);
  });

  it("sets times to the nanosecond; the content stays", async () => {
    const told = await change(`
      p = at("files/times")
      before = os.stat(p).st_mtime
      os.utime(p, ns=(1_500_000_000_000_000_001, 1_400_000_000_000_000_002))
      s = os.stat(p)
      tell([int(before), str(s.st_atime_ns), str(s.st_mtime_ns), digest("files/times")])`);
    const times = ["1500000000000000001", "1400000000000000002"];
    expect(told).toEqual([mtimeSec, ...times, sha(textFile)]);
  });

  it("shows a change to who has the file open for reading since before, but not in a mapping", async () => {
    const told = await change(`
      with opened(at("files/opened"), os.O_RDONLY) as fd:
          with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as m:
              before = m[:]
              with opened(at("files/opened"), os.O_WRONLY) as w: os.pwrite(w, b"HELLO", 0)
              tell([before, os.pread(fd, 100, 0), m[:], digest("files/opened")])`);
    const changed = textFile.replace("hello", "HELLO");
    expect(told).toEqual([textFile, changed, textFile, sha(changed)]);
  });

  it("leaves the image as it was: the lower, and a second rootfs of it", async () => {
    expect((await changesSince(pristine, rootfs.merged)).length).toBeGreaterThan(0);
    expect(await changesSince(lowerBefore, rootfs.lower)).toEqual([]);
    const second = await place.mount("second", "--engine", engine);
    expect(await changesSince(pristine, second.merged)).toEqual([]);
    await place.umount(second.id);
  });

  it("is all there when the upper, kept by --keep-upper, is used again with --upper", async () => {
    // With the native engine the second name of a file of the image that was linked and then written may have another inode number, as
    // long as the mount is there: overlayfs has no file handle to know the file by.
    const changed = (await viewOf(rootfs.merged)).map((line) =>
      line.path === "files/linked2" ? { ...line, firstName: line.path.slice(0, -1) as ByteString } : line,
    );
    const upper = await place.umount(rootfs.id, "--keep-upper");
    rootfs = await place.mount("again", "--engine", engine, "--upper", upper);
    expect(await changesSince(changed, rootfs.merged)).toEqual([]);
    expect(await changesSince(lowerBefore, rootfs.lower)).toEqual([]);
    await place.umount(rootfs.id);
    await rm(path.dirname(upper), { recursive: true });
  });

  it("is all there when an upper given by --upper is used again", async () => {
    const upper = path.join(await makeTempDir("upper"), "upper");
    const write = `put("files/append", b"given", "ab"); os.rename(at("tree/d2"), at("d2")); tell(None)`;
    rootfs = await place.mount("given", "--engine", engine, "--upper", upper);
    await change(write);
    const changed = await viewOf(rootfs.merged);
    await place.umount(rootfs.id);
    rootfs = await place.mount("given", "--engine", engine, "--upper", upper);
    expect(await changesSince(changed, rootfs.merged)).toEqual([]);
    await place.umount(rootfs.id);
  });
});

/** Without the indentation that the programs have here, so that `names` can stand before them. */
function dedent(source: string): string {
  const indent = /^\n( *)/.exec(source)?.[1] ?? "";
  return source.replaceAll(`\n${indent}`, "\n");
}
