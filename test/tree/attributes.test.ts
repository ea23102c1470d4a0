import { describe, expect, it } from "vitest";
import type { ByteString } from "../../src/base/byte-string.js";
import { byteStringFromText } from "../../src/base/byte-string.js";
import { digestOf } from "../../src/image/digest.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import { mergeLayers } from "../../src/tree/merge-layers.js";
import { expectAsUmoci } from "./as-umoci.js";
import { merge } from "./notation.js";

describe("attributes", () => {
  it("of a directory declared again are the last ones, and its children stay", async () => {
    const image = merge([
      [{ path: "d/", mode: 0o700, uid: 1, gid: 2, xattrs: { "user.a": "1" } }, "d/f"],
      [{ path: "d/", mode: 0o750, uid: 3, gid: 4, mtimeSec: 50, xattrs: { "user.b": "2" } }],
    ]);
    expect(image.listing).toBe("d/ d/f");
    expect(image.node("d")).toMatchObject({ mode: 0o750, uid: 3, gid: 4, mtimeSec: 50 });
    expect(image.node("d").xattrs).toEqual([{ name: "user.b", value: "2" }]);
    await expectAsUmoci(image);
  });

  it("of directories that are not declared again stay when a child is added", async () => {
    const image = merge([
      [
        { path: "tmp/", mode: 0o1777, mtimeSec: 60, mtimeNsec: 123_456_789 },
        { path: "home/", mode: 0o700, uid: 1000, gid: 1000, xattrs: { "user.x": "y" } },
        { path: "home/sub/", mode: 0o2750 },
      ],
      "tmp/a home/sub/b ",
    ]);
    expect(image.node("tmp")).toMatchObject({ mode: 0o1777, mtimeSec: 60, mtimeNsec: 123_456_789 });
    expect(image.node("home")).toMatchObject({
      mode: 0o700,
      uid: 1000,
      xattrs: [{ name: "user.x", value: "y" }],
    });
    await expectAsUmoci(image);
  });

  it("of directories without an entry are 0755, 0:0 and mtime 0, until an entry describes them", () => {
    const image = merge(["a/b/c", [{ path: "a/", mode: 0o711, mtimeSec: 5 }]]);
    expect(image.node("a")).toMatchObject({ mode: 0o711, mtimeSec: 5 });
    expect(image.node("a/b")).toMatchObject({
      mode: 0o755,
      uid: 0,
      gid: 0,
      mtimeSec: 0,
      mtimeNsec: 0,
      xattrs: [],
    });
    expect(image.node("a/b/c").type).toBe("file");
  });

  it("of forbidding directories and files do not forbid later layers anything", async () => {
    const image = merge([
      [
        { path: "r/", mode: 0o555 },
        { path: "r/f", mode: 0, content: "secret" },
        "r/g",
        { path: "z/", mode: 0 },
        "z/a",
      ],
      "r/f(new) r/.wh.g z/b",
    ]);
    expect(image.listing).toBe("r/ r/f(new) z/ z/a z/b");
    expect(image.node("r").mode).toBe(0o555);
    expect(image.node("z").mode).toBe(0);
    await expectAsUmoci(image);
  });

  it("setuid, setgid, sticky, large ids, nanoseconds and times before 1970 are kept", async () => {
    const image = merge([
      [
        { path: "s", content: "s", mode: 0o6755, uid: 70_000, gid: 4_000_000_000 },
        { path: "t", content: "", mode: 0o1644, mtimeSec: -2, mtimeNsec: 500_000_000 },
        { path: "u", content: "", uid: 2 ** 32 - 2, mtimeSec: 4_000_000_000 },
      ],
    ]);
    expect(image.node("s")).toMatchObject({ mode: 0o6755, uid: 70_000, gid: 4_000_000_000 });
    expect(image.node("t")).toMatchObject({ mode: 0o1644, mtimeSec: -2, mtimeNsec: 500_000_000 });
    await expectAsUmoci(image);
  });

  it("of a symlink are its own, but for the mode, which no symlink has", async () => {
    const image = merge([[{ path: "l", link: "t", mode: 0o600, uid: 7, gid: 8, mtimeSec: 90 }]]);
    expect(image.node("l")).toMatchObject({ mode: 0o777, uid: 7, gid: 8, mtimeSec: 90, fileBytes: 0 });
    await expectAsUmoci(image);
  });

  it("of FIFOs and devices have their numbers", async () => {
    const image = merge([
      [
        { path: "p", type: "fifo", mode: 0o622 },
        { path: "null", type: "character", mode: 0o666, major: 1, minor: 3 },
        { path: "max", type: "block", major: 4095, minor: 1_048_575 },
        { path: "zero", type: "character", major: 0, minor: 0 },
      ],
    ]);
    expect(image.node("null")).toMatchObject({ type: "character", deviceMajor: 1, deviceMinor: 3 });
    expect(image.node("max")).toMatchObject({ type: "block", deviceMajor: 4095, deviceMinor: 1_048_575 });
    await expectAsUmoci(image);
  });

  it("of a file say which layer its bytes are in", () => {
    const image = merge("a b ; b(new) c=a");
    expect(image.node("a").layer).toBe(0);
    expect(image.node("b").layer).toBe(1);
    expect(image.node("c").layer).toBe(0);
  });
});

describe("extended attributes", () => {
  const namesOf = (xattrs: Record<string, string | Buffer>) => {
    const image = merge([[{ path: "f", content: "", xattrs }]]);
    return { names: image.node("f").xattrs.map((xattr) => xattr.name), warnings: image.warnings };
  };

  it("are sorted by the bytes of their names and keep binary values", async () => {
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    // system.posix_acl_access, version 2: user::rw-, user:5:r--, group::r--, mask::r--, other::r--
    const acl = Buffer.from(
      "02000000 01000600ffffffff 0200040005000000 04000400ffffffff 10000400ffffffff 20000400ffffffff".replaceAll(
        " ",
        "",
      ),
      "hex",
    );
    const xattrs = {
      "user.z": Buffer.from([0, 255, 10]),
      "user.a": "plain",
      "security.capability": capability,
      "system.posix_acl_access": acl,
    };
    const image = merge([[{ path: "f", content: "x", mode: 0o644, xattrs }]]);
    expect(image.node("f").xattrs).toEqual([
      { name: "security.capability", value: capability.toString("latin1") },
      { name: "system.posix_acl_access", value: acl.toString("latin1") },
      { name: "user.a", value: "plain" },
      { name: "user.z", value: "\x00\xff\n" },
    ]);
    await expectAsUmoci(image);
  });

  it("that overlayfs would obey are left out, escaped ones too, with a warning (umoci passes them on)", () => {
    const { names, warnings } = namesOf({
      "trusted.overlay.opaque": "y",
      "user.overlay.redirect": "/etc",
      "trusted.overlay.overlay.opaque": "y",
      "user.overlayer": "kept",
      "trusted.other": "kept",
    });
    expect(names).toEqual(["trusted.other", "user.overlayer"]);
    expect(warnings).toHaveLength(3);
    expect(warnings[0]).toMatch(/^layer 1 of 1, .*"f" .*trusted\.overlay\.opaque/);
  });

  it("of the machine that made the layer are dropped without a word", () => {
    const { names, warnings } = namesOf({
      "security.selinux": "x",
      "system.nfs4_acl": "x",
      "security.ima": "x",
    });
    expect(names).toEqual(["security.ima"]);
    expect(warnings).toEqual([]);
  });

  it("of 64 KiB are kept", () => {
    expect(namesOf({ "user.big": Buffer.alloc(65_536, 1) }).names).toEqual(["user.big"]);
  });
});

describe("what no Linux filesystem could hold", () => {
  const plain: LayerEntry = {
    path: "a/f" as ByteString,
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    fileBytes: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    linkTarget: "" as ByteString,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    extents: [],
  };
  const bytes = byteStringFromText;
  const mergeEntry = (entry: Partial<LayerEntry>) =>
    mergeLayers([{ digest: digestOf(Buffer.from("layer")), entries: [{ ...plain, ...entry }] }]);
  const xattr = (name: string, valueBytes = 0) => ({
    name: bytes(name),
    value: bytes("v".repeat(valueBytes)),
  });
  const long = "n".repeat(256);

  const refused: Record<string, [code: string, entry: Partial<LayerEntry>]> = {
    "a NUL in a name": ["LAYER_CORRUPT", { path: bytes("a/\0f") }],
    "a NUL in a symlink's target": ["LAYER_CORRUPT", { type: "symlink", linkTarget: bytes("a\0") }],
    "a NUL in a hard link's target": ["LAYER_CORRUPT", { type: "hardlink", linkTarget: bytes("a\0") }],
    "a symlink without a target": ["LAYER_CORRUPT", { type: "symlink" }],
    "a symlink of 4096 bytes": ["LIMIT_EXCEEDED", { type: "symlink", linkTarget: bytes("t".repeat(4096)) }],
    "a name of 256 bytes": ["LIMIT_EXCEEDED", { path: bytes(`a/${long}`) }],
    "a directory name of 256 bytes": ["LIMIT_EXCEEDED", { path: bytes(`${long}/f`) }],
    "a whiteout of a name of 256 bytes": ["LIMIT_EXCEEDED", { path: bytes(`a/.wh.${long}`) }],
    "a path of 4097 bytes": ["LIMIT_EXCEEDED", { path: bytes(`${"d/".repeat(2048)}f`) }],
    "a hard link's target of 4097 bytes": [
      "LIMIT_EXCEEDED",
      { type: "hardlink", linkTarget: bytes(`${"d/".repeat(2048)}f`) },
    ],
    "a uid of 2^32 - 1": ["LAYER_CORRUPT", { uid: 2 ** 32 - 1 }],
    "a negative gid": ["LAYER_CORRUPT", { gid: -1 }],
    "a major device number of 4096": ["LAYER_CORRUPT", { type: "block", deviceMajor: 4096 }],
    "a minor device number of 2^20": ["LAYER_CORRUPT", { type: "character", deviceMinor: 2 ** 20 }],
    "an extended attribute without a name": ["LAYER_CORRUPT", { xattrs: [xattr("")] }],
    "an extended attribute with a NUL in its name": ["LAYER_CORRUPT", { xattrs: [xattr("user.\0")] }],
    "an extended attribute name of 256 bytes": [
      "LIMIT_EXCEEDED",
      { xattrs: [xattr(`user.${long.slice(5)}`)] },
    ],
    "an extended attribute of 64 KiB and one": ["LIMIT_EXCEEDED", { xattrs: [xattr("user.a", 65_537)] }],
    "more than 64 KiB of extended attribute names": [
      "LIMIT_EXCEEDED",
      { xattrs: Array.from({ length: 400 }, (_, at) => xattr(`user.${String(at).padStart(180, "0")}`)) },
    ],
  };
  for (const [what, [code, entry]] of Object.entries(refused)) {
    it(`is an error that names layer and path: ${what}`, () => {
      expect(() => mergeEntry(entry)).toThrow(
        expect.objectContaining({
          code,
          message: expect.stringMatching(/^layer 1 of 1, sha256:[0-9a-f]{12}\.\.\.: "/),
        }),
      );
    });
  }

  it("a whiteout of a name of 255 bytes is none of that", () => {
    const name = "n".repeat(255);
    const layer = (path: string) => ({
      digest: digestOf(Buffer.from(path)),
      entries: [{ ...plain, path: bytes(path) }],
    });
    expect(
      mergeLayers([layer(`d/${name}`), layer(`d/.wh.${name}`)]).root.children!.get(bytes("d"))!.children!
        .size,
    ).toBe(0);
  });

  it("a path that only links make longer than 4096 bytes is an error", () => {
    const deep = "d/".repeat(1500);
    const step = (path: string) => ({ ...plain, path: bytes(path) });
    const entries = [
      step(`${deep}f`),
      { ...plain, path: bytes("l"), type: "symlink" as const, linkTarget: bytes(deep) },
      step(`l/${deep}f`),
    ];
    expect(() => mergeLayers([{ digest: digestOf(Buffer.from("")), entries }])).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED" }),
    );
  });

  it("paths that imply directories without end are an error before memory is used up", () => {
    const entries = Array.from({ length: 600 }, (_, at) => ({
      ...plain,
      path: bytes(`${at}/${"d/".repeat(1990)}f`),
    }));
    expect(() => mergeLayers([{ digest: digestOf(Buffer.from("")), entries }])).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED", message: expect.stringContaining("1000000") }),
    );
  });

  it("fifty warnings of a layer are kept, the others counted", () => {
    const entries = Array.from({ length: 75 }, (_, at) => ({ ...plain, path: bytes(`../f${at}`) }));
    const { warnings } = mergeLayers([{ digest: digestOf(Buffer.from("")), entries }]);
    expect(warnings).toHaveLength(51);
    expect(warnings.at(-1)).toMatch(/^layer 1 of 1, .*25 further warnings/);
  });
});
