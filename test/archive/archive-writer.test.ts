import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { isSkimError } from "../../src/base/errors.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { sectionBytes } from "./archive-bytes.js";
import {
  contentsOf,
  directory,
  encoded,
  file,
  gzipLayer,
  node,
  raw,
  sampleContents,
  sampleTree,
  symlink,
  xattr,
} from "./sample-archive.js";
import { walkArchive } from "./walk-archive.js";

describe("the bytes of an archive", () => {
  it("are the same for the same contents, in whatever order the tree was put together", () => {
    const reversed = (of: TreeNode): TreeNode => {
      if (of.children)
        of.children = new Map([...of.children].reverse().map(([name, child]) => [name, reversed(child)]));
      return of;
    };
    const first = encoded(sampleContents());
    expect(encoded(sampleContents()).equals(first)).toBe(true);
    expect(
      encoded({ ...sampleContents(), tree: { root: reversed(sampleTree()), warnings: [] } }).equals(first),
    ).toBe(true);
  });

  it("are those of format version 2: whoever changes them raises the version", () => {
    const bytes = encoded(sampleContents());
    expect(bytes.length % 64).toBe(0);
    expect(createHash("sha256").update(bytes).digest("hex")).toMatchInlineSnapshot(
      `"8e10e043c9efe1f61bd10478cbf1c8b37d87d0eea21f501ffe38e47165320777"`,
    );
  });

  it("number children together in byte order, and one child directory with all below it before the next", () => {
    const shared = file(0, 1);
    const root = directory({
      b: directory({ y: directory({ deep: file(0, 1) }), x: shared }),
      a: directory({ z: file(0, 1), link: shared }),
      "a-": file(0, 1),
    });
    const archive = decodeArchive(encoded(contentsOf(root, [gzipLayer])), "numbers");
    const numbers = Object.fromEntries(walkArchive(archive).map(({ path, ino }) => [path, ino]));
    expect(numbers).toEqual({
      "/": 1,
      "/a": 2,
      "/a-": 3,
      "/b": 4,
      "/a/link": 5,
      "/a/z": 6,
      "/b/x": 5,
      "/b/y": 7,
      "/b/y/deep": 8,
    });
  });

  it("store names, values and xattr sets once, in the order of first use", () => {
    const set = [xattr("user.a", "value"), xattr("user.b", "value")];
    const root = directory({
      same: directory({ same: symlink("same") }),
      user: node("fifo", { xattrs: set }),
      "user.b": node("fifo", { xattrs: [...set] }),
    });
    const bytes = encoded(contentsOf(root, []));
    expect(sectionBytes(bytes, "names").toString("latin1")).toBe("sameuseruser.buser.a");
    expect(sectionBytes(bytes, "xattrValues").toString("latin1")).toBe("value");
    expect(sectionBytes(bytes, "xattrs")).toHaveLength(32);
  });

  it("do not need a deep stack: 2048 directories in each other", () => {
    const root = directory();
    let deepest = root;
    for (let depth = 0; depth < 2048; depth++) {
      const child = directory();
      deepest.children!.set(raw("d"), child);
      deepest = child;
    }
    deepest.children!.set(raw("bottom"), file(0, 1));
    const archive = decodeArchive(encoded(contentsOf(root, [gzipLayer])), "deep");
    expect(walkArchive(archive).at(-1)).toMatchObject({ path: `${"/d".repeat(2048)}/bottom`, ino: 2050 });
  });
});

describe("what the format cannot hold", () => {
  const refused: Array<[what: string, code: string, message: RegExp, root: TreeNode]> = [
    [
      "an owner beyond 32 bits",
      "LIMIT_EXCEEDED",
      /^\/d\/f cannot.*4294967295:0/,
      directory({ d: directory({ f: file(0, 0, { uid: 2 ** 32 - 1 }) }) }),
    ],
    [
      "a name of 256 bytes",
      "LIMIT_EXCEEDED",
      /^\/d cannot.*256 bytes/,
      directory({ d: directory({ ["n".repeat(256)]: file(0, 0) }) }),
    ],
    ["an empty name", "LIMIT_EXCEEDED", /0 bytes/, directory({ "": file(0, 0) })],
    ["a name with a slash", "LAYER_UNSUPPORTED", /"a\/b"/, directory({ "a/b": file(0, 0) })],
    ["a name with a NUL", "LAYER_UNSUPPORTED", /x00/, directory({ "a\0": file(0, 0) })],
    ["the name ..", "LAYER_UNSUPPORTED", /"\.\."/, directory({ "..": file(0, 0) })],
    ["a symlink to nothing", "LIMIT_EXCEEDED", /0 bytes/, directory({ l: symlink("") })],
    ["a symlink of 4096 bytes", "LIMIT_EXCEEDED", /4096 bytes/, directory({ l: symlink("t".repeat(4096)) })],
    ["a symlink with a NUL", "LAYER_UNSUPPORTED", /NUL/, directory({ l: symlink("a\0b") })],
    [
      "a device that Linux cannot name",
      "LIMIT_EXCEEDED",
      /4096:0/,
      directory({ c: node("character", { deviceMajor: 4096 }) }),
    ],
    [
      "a time that is no number",
      "LIMIT_EXCEEDED",
      /time/,
      directory({ f: file(0, 0, { mtimeSec: Number.NaN }) }),
    ],
    ["a negative size", "LIMIT_EXCEEDED", /size -1/, directory({ f: node("file", { fileBytes: -1 }) })],
    [
      "an xattr name of 256 bytes",
      "LIMIT_EXCEEDED",
      /256 bytes/,
      directory({}, { xattrs: [xattr("n".repeat(256), "")] }),
    ],
    [
      "an xattr of more than 64 KiB",
      "LIMIT_EXCEEDED",
      /65537 bytes/,
      directory({}, { xattrs: [xattr("user.a", "v".repeat(65_537))] }),
    ],
    [
      "more xattr names than the kernel lists",
      "LIMIT_EXCEEDED",
      /names of its xattrs/,
      directory(
        {},
        { xattrs: Array.from({ length: 260 }, (_, i) => xattr(`user.${String(i).padStart(250, "0")}`, "")) },
      ),
    ],
  ];
  it.each(refused)("%s is refused with the path", (_what, code, message, root) => {
    let error: unknown;
    try {
      encoded(contentsOf(root, []));
    } catch (thrown) {
      error = thrown;
    }
    expect(isSkimError(error)).toBe(true);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it("an overlay xattr, a directory that is there twice, an extent beyond its layer: mistakes of the caller", () => {
    const twice = directory();
    for (const root of [
      directory({}, { xattrs: [xattr("trusted.overlay.opaque", "y")] }),
      directory({}, { xattrs: [xattr("user.b", ""), xattr("user.a", "")] }),
      directory({ a: twice, b: twice }),
      directory({ f: file(1099, 2) }),
      directory({ f: file(0, 1, { layer: 1 }) }),
    ]) {
      expect(() => encoded(contentsOf(root, [gzipLayer]))).toThrow(
        expect.objectContaining({ code: "INTERNAL" }),
      );
    }
  });

  it("layers and manifests that do not belong together are not written", () => {
    const contents = sampleContents();
    for (const wrong of [
      { ...contents, layers: contents.layers.slice(1) },
      { ...contents, layers: contents.layers.toReversed().with(0, contents.layers[1]!) },
      { ...contents, configBytes: Buffer.from("{}") },
      { ...contents, manifestBytes: Buffer.from("{}") },
      { ...contents, spanBytes: 0 },
    ]) {
      expect(() => encoded(wrong)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
    }
  });
});

describe("warnings", () => {
  it("are kept up to a thousand, and counted beyond", () => {
    const warnings = Array.from({ length: 1500 }, (_, i) => `warning ${i}`);
    const { identity } = decodeArchive(encoded(contentsOf(directory(), [], { warnings })), "warned");
    expect(identity.warnings).toEqual([...warnings.slice(0, 1000), "500 more warnings were left out"]);
  });

  it("are kept up to a mebibyte of text, whatever it is", () => {
    const warnings = Array.from({ length: 20 }, () => "\u0001".repeat(100_000));
    const { identity } = decodeArchive(encoded(contentsOf(directory(), [], { warnings })), "long");
    expect(identity.warnings).toHaveLength(11);
    expect(identity.warnings.at(-1)).toBe("10 more warnings were left out");
  });
});
