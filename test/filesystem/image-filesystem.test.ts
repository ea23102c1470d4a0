import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { errnoOf, SkimError } from "../../src/base/errors.js";
import { ErrnoError, errnoNumberOf } from "../../src/filesystem/errno-error.js";
import { encodeDevice, rootIno } from "../../src/filesystem/file-attributes.js";
import {
  type FileContent,
  type FileReadRequest,
  ImageFilesystem,
} from "../../src/filesystem/image-filesystem.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import {
  contentsOf,
  directory,
  encoded,
  file,
  gzipLayer,
  node,
  plainLayer,
  raw,
  sampleTree,
  symlink,
  xattr,
} from "../archive/sample-archive.js";

function open(root: TreeNode = sampleTree(), content?: FileContent): ImageFilesystem {
  const archive = decodeArchive(encoded(contentsOf(root, [gzipLayer, plainLayer])), "test archive");
  return new ImageFilesystem({ archive, content });
}

const at = (filesystem: ImageFilesystem, path: string, followLast = true) =>
  filesystem.resolvePath(raw(path), { followLast });

function errnoName(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof ErrnoError ? error.errnoName : String(error);
  }
  return "no error";
}

describe("attributes", () => {
  it("has those of the archive, with the type in the mode", () => {
    const filesystem = open();
    expect(filesystem.attributes(at(filesystem, "/bin/su"))).toEqual({
      ino: at(filesystem, "/bin/su"),
      mode: 0o104755,
      nlink: 2,
      uid: 70_000,
      gid: 5,
      size: 100,
      blocks: 1,
      blksize: 4096,
      rdevMajor: 0,
      rdevMinor: 0,
      mtimeSec: 1_700_000_000,
      mtimeNsec: 0,
    });
    expect(filesystem.attributes(at(filesystem, "/dev/sda"))).toMatchObject({
      mode: 0o060660,
      rdevMajor: 4095,
      rdevMinor: 1_048_575,
    });
    expect(filesystem.attributes(at(filesystem, "/old"))).toMatchObject({
      mtimeSec: -1,
      mtimeNsec: 999_999_999,
    });
  });

  it("of the root are there, under the number 1", () => {
    const attributes = open().attributes(rootIno);
    expect(attributes).toMatchObject({ ino: 1, mode: 0o040711, uid: 5, gid: 6, mtimeNsec: 123_456_789 });
  });

  it("counts 2 and its subdirectories as the links of a directory, never 0", () => {
    const filesystem = open(directory({ a: directory({ b: directory(), c: directory(), f: file(0, 1) }) }));
    expect(filesystem.attributes(rootIno).nlink).toBe(3);
    expect(filesystem.attributes(at(filesystem, "/a")).nlink).toBe(4);
    expect(filesystem.attributes(at(filesystem, "/a/b")).nlink).toBe(2);
    for (let ino = 1; ino <= filesystem.inodeCount; ino++)
      expect(filesystem.attributes(ino).nlink).toBeGreaterThanOrEqual(1);
  });

  it("gives hard links one number", () => {
    const filesystem = open();
    expect(at(filesystem, "/bin/su.old")).toBe(at(filesystem, "/bin/su"));
  });

  it("counts blocks of 512 bytes, holes included", () => {
    const filesystem = open();
    expect(filesystem.attributes(at(filesystem, "/sparse"))).toMatchObject({ size: 10_000, blocks: 20 });
    expect(filesystem.attributes(at(filesystem, "/na\xc3\xafve"))).toMatchObject({ size: 0, blocks: 0 });
  });

  it("gives a symlink the length of its target as size", () => {
    const filesystem = open();
    expect(filesystem.attributes(at(filesystem, "/bin/sh", false)).size).toBe("../usr/bin/dash".length);
  });

  it("answers ESTALE for a number that is no inode", () => {
    const filesystem = open();
    for (const ino of [0, -1, filesystem.inodeCount + 1, 2 ** 32, Number.NaN])
      expect(errnoName(() => filesystem.attributes(ino))).toBe("ESTALE");
  });
});

describe("device numbers", () => {
  it("are packed as the kernel's 32-bit dev_t", () => {
    expect(encodeDevice(1, 3)).toBe(0x103);
    expect(encodeDevice(8, 0x12345)).toBe(0x12300845);
    expect(encodeDevice(4095, 1_048_575)).toBe(0xffffffff);
  });
});

describe("lookup", () => {
  it("finds names by their bytes, and 0 for those that are not there", () => {
    const filesystem = open();
    expect(filesystem.lookup(rootIno, raw("\xff\xfe"))).toBeGreaterThan(1);
    expect(filesystem.lookup(rootIno, raw("\xff"))).toBe(0);
    expect(filesystem.lookup(rootIno, raw(""))).toBe(0);
    expect(filesystem.lookup(rootIno, raw("bin/su"))).toBe(0);
  });

  it("answers ENOTDIR in anything but a directory, and ENAMETOOLONG above 255 bytes", () => {
    const filesystem = open();
    expect(errnoName(() => filesystem.lookup(at(filesystem, "/old"), raw("x")))).toBe("ENOTDIR");
    expect(errnoName(() => filesystem.lookup(at(filesystem, "/bin/sh", false), raw("x")))).toBe("ENOTDIR");
    expect(filesystem.lookup(rootIno, raw("x".repeat(255)))).toBe(0);
    expect(errnoName(() => filesystem.lookup(rootIno, raw("x".repeat(256))))).toBe("ENAMETOOLONG");
  });
});

describe("readDirectory", () => {
  it("gives . and .. and then all names in the order of their bytes, with type and number", () => {
    const filesystem = open();
    const dev = at(filesystem, "/dev");
    expect([...filesystem.readDirectory(dev)]).toEqual([
      { name: ".", ino: dev, type: 4, nextOffset: 1 },
      { name: "..", ino: 1, type: 4, nextOffset: 2 },
      { name: "log", ino: at(filesystem, "/dev/log"), type: 1, nextOffset: 3 },
      { name: "null", ino: at(filesystem, "/dev/null"), type: 2, nextOffset: 4 },
      { name: "sda", ino: at(filesystem, "/dev/sda"), type: 6, nextOffset: 5 },
    ]);
    const names = [...filesystem.readDirectory(rootIno)].map((entry) => entry.name).slice(2);
    expect(names).toEqual([...names].sort());
    expect(names).toContain("\xff\xfe");
  });

  it("goes on behind any name at its offset, also in a reading of its own", () => {
    const filesystem = open();
    const all = [...filesystem.readDirectory(rootIno)];
    for (const [position, { nextOffset }] of all.entries())
      expect([...filesystem.readDirectory(rootIno, nextOffset)]).toEqual(all.slice(position + 1));
    expect([...filesystem.readDirectory(rootIno, 1_000_000)]).toEqual([]);
  });

  it("says that the root's parent is the root", () => {
    expect([...open().readDirectory(rootIno)][1]).toMatchObject({ name: "..", ino: 1 });
    expect(open().parentOf(rootIno)).toBe(1);
  });

  it("answers ENOTDIR at once for a file", () => {
    const filesystem = open();
    expect(errnoName(() => filesystem.readDirectory(at(filesystem, "/old")))).toBe("ENOTDIR");
  });
});

describe("readLink", () => {
  it("gives the target as stored, and EINVAL for what is no symlink", () => {
    const filesystem = open();
    expect(filesystem.readLink(at(filesystem, "/bin/sh", false))).toBe("../usr/bin/dash");
    expect(filesystem.readLink(at(filesystem, "/\xff\xfe", false))).toBe("\xc3\x28");
    expect(errnoName(() => filesystem.readLink(at(filesystem, "/old")))).toBe("EINVAL");
    expect(errnoName(() => filesystem.readLink(rootIno))).toBe("EINVAL");
  });
});

describe("read", () => {
  const requests: FileReadRequest[] = [];
  const content: FileContent = {
    read: async (request) => {
      requests.push(request);
      request.into.fill(0x61);
      return request.into.length;
    },
  };

  it("asks the content for no more than there is, with all extents of the file", async () => {
    const filesystem = open(sampleTree(), content);
    const into = new Uint8Array(4096);
    const signal = AbortSignal.timeout(60_000);
    expect(await filesystem.read(at(filesystem, "/sparse"), 9_990, into, signal)).toBe(10);
    expect(requests.at(-1)).toMatchObject({ fileBytes: 10_000, offset: 9_990, signal });
    expect(requests.at(-1)!.into.length).toBe(10);
    expect(requests.at(-1)!.extents).toEqual([
      { fileOffset: 100, length: 50, layer: 1, layerOffset: 0 },
      { fileOffset: 150, length: 50, layer: 1, layerOffset: 200 },
      { fileOffset: 9_000, length: 100, layer: 1, layerOffset: 400 },
    ]);
    expect(into[9]).toBe(0x61);
    expect(into[10]).toBe(0);
  });

  it("answers 0 at and behind the end, and for no bytes, without asking", async () => {
    const filesystem = open(sampleTree(), undefined);
    expect(await filesystem.read(at(filesystem, "/sparse"), 10_000, new Uint8Array(1))).toBe(0);
    expect(await filesystem.read(at(filesystem, "/sparse"), 2 ** 40, new Uint8Array(1))).toBe(0);
    expect(await filesystem.read(at(filesystem, "/sparse"), 0, new Uint8Array(0))).toBe(0);
    expect(await filesystem.read(at(filesystem, "/na\xc3\xafve"), 0, new Uint8Array(10))).toBe(0);
  });

  it("rejects directories with EISDIR, and all else that is no file with EINVAL", async () => {
    const filesystem = open(sampleTree(), content);
    const into = new Uint8Array(1);
    await expect(filesystem.read(rootIno, 0, into)).rejects.toMatchObject({ errnoName: "EISDIR" });
    for (const path of ["/dev/null", "/dev/log", "/bin/sh"])
      await expect(filesystem.read(at(filesystem, path, false), 0, into)).rejects.toMatchObject({
        errnoName: "EINVAL",
      });
    await expect(filesystem.read(9999, 0, into)).rejects.toMatchObject({ errnoName: "ESTALE" });
  });

  it("passes on what the content failed with, and its errno", async () => {
    const failing = open(sampleTree(), {
      read: () => Promise.reject(new SkimError("DEADLINE_EXCEEDED", "too late")),
    });
    const error = await failing.read(at(failing, "/old"), 0, new Uint8Array(1)).catch((error) => error);
    expect(error).toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect(errnoNumberOf(error)).toBe(5);
  });

  it("refuses a content that gives less than there is: nobody may take it for the end of the file", async () => {
    const short = open(sampleTree(), { read: async () => 3 });
    await expect(short.read(at(short, "/old"), 0, new Uint8Array(20))).rejects.toMatchObject({
      code: "INTERNAL",
    });
  });
});

describe("extended attributes", () => {
  it("are listed in the order of their bytes, and read byte by byte", () => {
    const filesystem = open();
    const su = at(filesystem, "/bin/su");
    expect(filesystem.hasXattrs).toBe(true);
    expect(filesystem.listXattr(su)).toEqual(["security.capability", "user.note"]);
    expect(filesystem.getXattr(su, raw("security.capability"))).toBe("\x01\x00\x00\x02\xff");
  });

  it("tell an empty value from an attribute that is not there", () => {
    const filesystem = open();
    expect(filesystem.getXattr(at(filesystem, "/bin/su"), raw("user.note"))).toBe("");
    expect(filesystem.getXattr(at(filesystem, "/bin/su"), raw("user.not"))).toBeUndefined();
    expect(filesystem.getXattr(at(filesystem, "/tmp"), raw("user.note"))).toBeUndefined();
    expect(filesystem.listXattr(at(filesystem, "/tmp"))).toEqual([]);
  });

  it("are known to be absent from an image that has none", () => {
    expect(open(directory({ f: file(0, 1) })).hasXattrs).toBe(false);
    expect(open(directory({ f: file(0, 1, { xattrs: [xattr("user.a", "")] }) })).hasXattrs).toBe(true);
  });
});

describe("statfs", () => {
  it("has the bytes and inodes of the image, nothing free, and names of 255 bytes", () => {
    const filesystem = open(directory({ big: node("file", { fileBytes: 10_000_000 }), small: file(0, 1) }));
    expect(filesystem.statfs()).toEqual({
      blockBytes: 4096,
      blocks: Math.ceil(10_000_001 / 4096),
      blocksFree: 0,
      files: 3,
      filesFree: 0,
      nameBytesMax: 255,
    });
  });

  it("is not zero for an empty image", () => {
    expect(open(directory()).statfs()).toMatchObject({ blockBytes: 4096, blocks: 1, files: 1 });
  });
});

describe("ErrnoError", () => {
  it("is a SkimError for people and an exact errno for kernels", () => {
    const names = ["ENOENT", "ENOTDIR", "EISDIR", "EINVAL", "ENAMETOOLONG", "ELOOP", "ESTALE"] as const;
    const numbers = names.map((name) => errnoNumberOf(new ErrnoError(name, "...")));
    expect(numbers).toEqual([2, 20, 21, 22, 36, 40, 116]);
    const missing = new ErrnoError("ENOENT", "no such file");
    expect(missing).toBeInstanceOf(SkimError);
    expect(missing).toMatchObject({ code: "NOT_FOUND", exitCode: 3 });
    expect(errnoNumberOf(new Error("who knows"))).toBe(errnoOf(new Error("who knows")));
  });
});

describe("resolvePath", () => {
  const tree = () =>
    directory({
      usr: directory({ bin: directory({ sh: file(0, 9), dash: symlink("sh") }), share: directory() }),
      bin: symlink("usr/bin"),
      lib: symlink("/usr/../usr/share/"),
      out: symlink("../../../../usr"),
      root: symlink("/"),
      self: symlink("self"),
      a: symlink("b"),
      b: symlink("a"),
      dangling: symlink("nowhere"),
      fileslash: symlink("usr/bin/sh/"),
      ...Object.fromEntries(
        Array.from({ length: 41 }, (_, i) => [`hop${i}`, symlink(i === 0 ? "usr" : `hop${i - 1}`)]),
      ),
    });

  it("walks from the root, with or without a leading slash", () => {
    const filesystem = open(tree());
    const sh = at(filesystem, "/usr/bin/sh");
    expect(filesystem.attributes(sh).size).toBe(9);
    for (const path of [
      "usr/bin/sh",
      "//usr///bin/sh",
      "/usr/./bin/sh",
      "/usr/share/../bin/sh",
      "/../usr/bin/sh",
    ])
      expect(at(filesystem, path)).toBe(sh);
    for (const path of ["/", ".", "..", "/usr/..", "/../..", "root", "root/usr/.."])
      expect(at(filesystem, path)).toBe(1);
  });

  it("follows relative, absolute and chained symlinks inside the image's root", () => {
    const filesystem = open(tree());
    expect(at(filesystem, "/bin/dash")).toBe(at(filesystem, "/usr/bin/sh"));
    expect(at(filesystem, "/lib")).toBe(at(filesystem, "/usr/share"));
    expect(at(filesystem, "/out")).toBe(at(filesystem, "/usr"));
    expect(at(filesystem, "/root/root/out/bin")).toBe(at(filesystem, "/usr/bin"));
  });

  it("leads through the directory that a symlink points to, not the one it stands in, at ..", () => {
    const filesystem = open(tree());
    expect(at(filesystem, "/bin/..")).toBe(at(filesystem, "/usr"));
  });

  it("gives a last symlink itself on request, unless a slash follows it", () => {
    const filesystem = open(tree());
    const link = at(filesystem, "/bin", false);
    expect(filesystem.readLink(link)).toBe("usr/bin");
    expect(at(filesystem, "/bin/", false)).toBe(at(filesystem, "/usr/bin"));
    expect(filesystem.readLink(at(filesystem, "/dangling", false))).toBe("nowhere");
    expect(filesystem.readLink(at(filesystem, "/self", false))).toBe("self");
    expect(filesystem.readLink(at(filesystem, "/bin/dash", false))).toBe("sh");
  });

  it.each([
    ["", "ENOENT"],
    ["/nowhere", "ENOENT"],
    ["/nowhere/..", "ENOENT"],
    ["/dangling", "ENOENT"],
    ["/usr/bin/sh/x", "ENOTDIR"],
    ["/usr/bin/sh/", "ENOTDIR"],
    ["/usr/bin/sh/.", "ENOTDIR"],
    ["/usr/bin/sh/..", "ENOTDIR"],
    ["/fileslash", "ENOTDIR"],
    ["/self", "ELOOP"],
    ["/a/x", "ELOOP"],
    ["/self/", "ELOOP"],
    [`/${"x".repeat(256)}`, "ENAMETOOLONG"],
    [`/${"x/".repeat(2048)}`, "ENAMETOOLONG"],
  ])("answers %j with %s", (path, name) => {
    expect(errnoName(() => at(open(tree()), path))).toBe(name);
  });

  it("follows 40 symlinks and no more, as the kernel does", () => {
    const filesystem = open(tree());
    expect(at(filesystem, "/hop39")).toBe(at(filesystem, "/usr"));
    expect(errnoName(() => at(filesystem, "/hop40"))).toBe("ELOOP");
  });

  it("ends on a tree that is all symlinks with long targets", () => {
    const long = "a/".repeat(2000);
    const filesystem = open(directory({ a: symlink(`${long}a`) }));
    expect(errnoName(() => at(filesystem, "/a"))).toBe("ELOOP");
  });
});
