/** Rules and example cases 15, 16, 21 and 22: modes, owners, times, attributes, devices. test/tree/attributes.test.ts has more, at the tree alone. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { linesOfTree } from "../support/tree-dump.js";
import { type MergedImage, merge } from "../tree/notation.js";
import { asUmoci, expectMerged, ours } from "./four-ways.js";

const exec = promisify(execFile);

/** CAP_NET_RAW, permitted and effective: struct vfs_cap_data, revision 2. */
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** Version 2: user::rw-, user:5:r--, group::r--, mask::r--, other::r--. */
const acl = Buffer.from(
  "0200000001000600ffffffff020004000500000004000400ffffffff10000400ffffffff20000400ffffffff",
  "hex",
);

describe("directories", () => {
  it("example 15: declared again have the last mode, owner, time and attributes, and keep their children", async () => {
    const image = merge([
      [{ path: "d/", mode: 0o700, uid: 1, gid: 2, xattrs: { "user.a": "1", "user.b": "1" } }, "d/f", "d/e/g"],
      [{ path: "d/", mode: 0o750, uid: 3, gid: 4, mtimeSec: 50, xattrs: { "user.b": "2" } }],
    ]);
    expect(image.listing).toBe("d/ d/e/ d/e/g d/f");
    expect(image.node("d")).toMatchObject({ mode: 0o750, uid: 3, gid: 4, mtimeSec: 50 });
    expect(image.node("d").xattrs).toEqual([{ name: "user.b", value: "2" }]);
    await expectMerged(image);
  });

  it("example 15: not declared again keep theirs when something is added, replaced or taken away in them", async () => {
    const image = merge([
      [
        { path: "tmp/", mode: 0o1777, mtimeSec: 60, mtimeNsec: 123_456_789 },
        { path: "home/", mode: 0o700, uid: 1000, gid: 1000, mtimeSec: 61, xattrs: { "user.x": "y" } },
        { path: "home/sub/", mode: 0o2750, mtimeSec: 62 },
        { path: "home/sub/goes", content: "x" },
        { path: "home/sub/changes", content: "x" },
      ],
      "tmp/a home/sub/b home/sub/.wh.goes home/sub/changes(new)",
    ]);
    expect(image.node("tmp")).toMatchObject({ mode: 0o1777, mtimeSec: 60, mtimeNsec: 123_456_789 });
    expect(image.node("home/sub")).toMatchObject({ mode: 0o2750, mtimeSec: 62 });
    await expectMerged(image, { umoci: "without times of directories" });
  });

  it("without an entry are 0755, 0:0 and mtime 0, until one describes them, and never override one", async () => {
    const image = merge([
      ["a/b/c", { path: "e/", mode: 0o711, uid: 6, mtimeSec: 9 }],
      [{ path: "a/", mode: 0o711, mtimeSec: 5 }, "e/f/g"],
    ]);
    expect(image.node("a")).toMatchObject({ mode: 0o711, mtimeSec: 5 });
    expect(image.node("a/b")).toMatchObject({ mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 });
    expect(image.node("e")).toMatchObject({ mode: 0o711, uid: 6, mtimeSec: 9 });
    await expectMerged(image, { umoci: "without times of directories" });
  });

  it("example 16: that forbid, and files of mode 0, forbid later layers nothing", async () => {
    const image = merge([
      [
        { path: "r/", mode: 0o555 },
        { path: "r/f", mode: 0, content: "secret" },
        "r/g",
        { path: "r/s/", mode: 0o500 },
        "r/s/h",
        { path: "z/", mode: 0 },
        "z/a",
        { path: "z/b", mode: 0, content: "old" },
      ],
      ["r/f(new)", "r/.wh.g", "r/s/.wh.h", { path: "z/b", mode: 0, content: "new" }, "z/c", "z/d/e"],
    ]);
    expect(image.listing).toBe("r/ r/f(new) r/s/ z/ z/a z/b(new) z/c z/d/ z/d/e");
    expect([image.node("r").mode, image.node("r/s").mode, image.node("z").mode]).toEqual([0o555, 0o500, 0]);
    await expectMerged(image, { umoci: "without times of directories" });
  });
});

describe("files", () => {
  it("example 21: keep setuid, setgid, sticky, large ids, nanoseconds and times before 1970", async () => {
    const image = merge([
      [
        { path: "s", content: "s", mode: 0o6755, uid: 70_000, gid: 4_000_000_000 },
        { path: "t", content: "", mode: 0o1644, mtimeSec: -2, mtimeNsec: 500_000_000 },
        { path: "u", content: "", mode: 0o7777, uid: 2 ** 32 - 2, mtimeSec: 4_000_000_000 },
        { path: "d/", mode: 0o7777, mtimeSec: -1_000_000_000, mtimeNsec: 1 },
        { path: "l", link: "t", mode: 0o600, uid: 7, gid: 8, mtimeSec: 90, mtimeNsec: 999_999_999 },
      ],
    ]);
    expect(image.node("s")).toMatchObject({ mode: 0o6755, uid: 70_000, gid: 4_000_000_000 });
    expect(image.node("t")).toMatchObject({ mode: 0o1644, mtimeSec: -2, mtimeNsec: 500_000_000 });
    expect(image.node("l")).toMatchObject({ mode: 0o777, uid: 7, gid: 8, mtimeSec: 90 });
    await expectMerged(image);
  });

  it("example 21: keep a file capability with an owner, ACLs and attributes of binary value, on directories and links too", async () => {
    const defaultAcl = { "system.posix_acl_access": acl, "system.posix_acl_default": acl };
    const image = merge([
      [
        { path: "ping", content: "x", mode: 0o755, uid: 12, xattrs: { "security.capability": capability } },
        {
          path: "f",
          content: "x",
          mode: 0o644,
          xattrs: { "user.z": Buffer.from([0, 255, 10]), "user.a": "1", "system.posix_acl_access": acl },
        },
        // What is made in it must not inherit from the default ACL.
        { path: "d/", mode: 0o644, xattrs: { ...defaultAcl, "trusted.d": "1" } },
        "d/e/",
        "d/e/f",
        { path: "l", link: "f", xattrs: { "trusted.l": "1" } },
        { path: "p", type: "fifo", xattrs: { "trusted.p": "1" } },
        "h=f",
      ],
    ]);
    expect(image.node("f").xattrs).toHaveLength(3);
    await expectMerged(image);
  });

  ours(
    "an attribute without a value is one all the same (umoci leaves it out)",
    [[{ path: "f", content: "f", xattrs: { "user.empty": "" } }]],
    "f",
  );

  it("attributes that overlayfs would obey, and those of the machine that made the layer, are dropped (umoci passes them on)", async () => {
    const obeyed = {
      "trusted.overlay.opaque": "y",
      "trusted.overlay.overlay.opaque": "y",
      "user.overlay.redirect": "/etc",
    };
    const local = { "security.selinux": "system_u:object_r:x", "system.nfs4_acl": "x" };
    const kept = { "trusted.overlayer": "kept", "user.overlay": "kept" };
    const image = merge([
      [
        { path: "d/", xattrs: { ...obeyed, ...kept, ...local } },
        { path: "f", content: "f", xattrs: { ...local, ...kept, ...obeyed } },
        { path: "g", content: "g", xattrs: { ...obeyed, ...local } },
      ],
      "d/e",
    ]);
    expect(xattrsIn(image)).toEqual({ "": {}, d: kept, "d/e": {}, f: kept, g: {} });
    await expectMerged(image, { umoci: false });
  });

  it("attributes of users are dropped from all but files and directories, for Linux has none there (umoci fails)", async () => {
    const xattrs = { "trusted.t": "t", "user.u": "u" };
    const rest = { "trusted.t": "t" };
    const image = merge([
      [
        { path: "c", type: "character", major: 1, minor: 3, xattrs },
        { path: "b", type: "block", major: 1, minor: 3, xattrs },
        { path: "d/", xattrs },
        { path: "f", content: "f", xattrs },
        { path: "l", link: "f", xattrs },
        { path: "p", type: "fifo", xattrs },
        { path: "h", type: "hardlink", link: "l", xattrs },
      ],
    ]);
    expect(xattrsIn(image)).toEqual({
      "": {},
      b: rest,
      c: rest,
      d: xattrs,
      f: xattrs,
      h: rest,
      l: rest,
      p: rest,
    });
    await expectMerged(image, { umoci: false });
  });
});

/** By path: names and values. */
function xattrsIn(image: MergedImage) {
  return Object.fromEntries(linesOfTree(image).map(({ path, xattrs }) => [path, Object.fromEntries(xattrs)]));
}

describe("attributes of 64 KiB", () => {
  // ext4 has room for 4 KiB of them.
  let tmpfs = "";
  beforeAll(async () => {
    tmpfs = await makeTempDir("tmpfs");
    await exec("mount", ["-t", "tmpfs", "tmpfs", tmpfs]);
  });
  afterAll(async () => {
    // Where something of unpacking still holds it, it goes all the same, and that is a failure.
    await exec("umount", [tmpfs]).catch(async (error) => {
      await exec("umount", ["-l", tmpfs]);
      throw error;
    });
  });

  it("example 21: are kept where the filesystem has room for them", async () => {
    const xattrs = { "user.big": Buffer.alloc(65_536, "big "), "trusted.big": Buffer.alloc(65_536, 255) };
    const image = merge([
      [
        { path: "f", content: "", xattrs },
        { path: "d/", xattrs },
      ],
    ]);
    expect(image.node("f").xattrs.map(({ value }) => value.length)).toEqual([65_536, 65_536]);
    await expectMerged(image, { destination: tmpfs });
  });
});

describe("example 22: devices and FIFOs", () => {
  it("have their numbers, modes and owners", async () => {
    const image = merge([
      [
        { path: "p", type: "fifo", mode: 0o622, uid: 3 },
        { path: "null", type: "character", mode: 0o666, major: 1, minor: 3, gid: 4 },
        { path: "max", type: "block", mode: 0o6660, major: 4095, minor: 1_048_575 },
        { path: "zero", type: "character", mode: 0, major: 0, minor: 0 },
      ],
    ]);
    expect(image.node("max")).toMatchObject({ type: "block", deviceMajor: 4095, deviceMinor: 1_048_575 });
    await expectMerged(image);
  });

  asUmoci(
    "are replaced by files and directories, and replace them, and are whited out",
    [
      [
        { path: "p", type: "fifo" },
        { path: "q", type: "fifo" },
        { path: "r", type: "fifo" },
        { path: "full", type: "character", major: 1, minor: 7 },
        "f",
        "d/x",
      ],
      [
        "p(file)",
        "q/",
        "q/x",
        ".wh.r",
        "full(file)",
        { path: "f", type: "character", major: 1, minor: 3 },
        { path: "d", type: "fifo" },
      ],
    ],
    "d(fifo) f(character) full(file) p(file) q/ q/x",
  );
});
