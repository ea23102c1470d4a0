import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, rename } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { engines } from "../support/engines.js";
import { look } from "../support/look.js";
import { overlayOptionsOf, WritingPlace } from "./writable-rootfs.js";
import { deepDirectory, noise, treeFileBytes, treePaths } from "./writing-image.js";

const exec = promisify(execFile);

const nothing = { requests: 0, bytes: 0, reads: 0 };

/** The tree's files whose bytes are not the image's, and `[uid, gid, mode, mtime, size]` of all, once each. */
const lookAtTree = `
import json
def facts(name):
    s = os.lstat(root + b"/" + raw(name))
    return [s.st_uid, s.st_gid, oct(s.st_mode & 0o7777), s.st_mtime_ns, s.st_size, s.st_blocks]
def wrong():
    for name, digest in args[1].items():
        with open(root + b"/" + raw(name), "rb") as f:
            if sha(f.read()) != digest: yield name
tell([sorted(set(map(json.dumps, map(facts, args[1])))), list(wrong())])`;

const digests = Object.fromEntries(
  treePaths.map((name) => [name, createHash("sha256").update(noise(name, treeFileBytes)).digest("hex")]),
);

describe("changing only metadata of an image's files", () => {
  let place: WritingPlace;

  beforeEach(async () => {
    place = await WritingPlace.open();
  });

  afterEach(async () => {
    await place.close();
  });

  const cases = engines.flatMap((engine) => [
    { engine, where: "on disk", options: [] },
    { engine, where: "in memory", options: ["--tmpfs-upper"] },
  ]);

  it.each(cases)(
    "asks for none of their bytes, with engine $engine and the upper $where: chown -R, chmod -R, touch -c, xattrs",
    async ({ engine, options }) => {
      const { id, merged } = await place.mount("metadata", "--engine", engine, ...options);
      const tree = path.join(merged, "tree");
      await exec("chown", ["-R", "1000:1001", tree]);
      await exec("chmod", ["-R", "u=rwX,go=", tree]);
      await exec("find", [tree, "-exec", "touch", "-c", "-d", "@1500000000.5", "{}", "+"]);
      await exec("find", [tree, "-type", "f", "-exec", "setfattr", "-n", "user.mine", "-v", "1", "{}", "+"]);
      const blobRequests = place.registry.counters.blobRequests;
      expect(await place.fetched(id)).toEqual(nothing);

      const [facts, wrong] = await look<[string[], string[]]>(lookAtTree, merged, digests);
      const blocks = treeFileBytes / 512;
      const fact = [1000, 1001, "0o600", 1_500_000_000_500_000_000, treeFileBytes, blocks];
      expect(facts.map((text) => JSON.parse(text))).toEqual([fact]);
      // Read now, and only now, the bytes come: all of them, and the image's.
      expect(wrong).toEqual([]);
      expect((await place.fetched(id)).bytes).toBeGreaterThan(treePaths.length * treeFileBytes);
      expect(place.registry.counters.blobRequests).toBeGreaterThan(blobRequests);
      await place.umount(id);
    },
  );

  it("asks for none of their bytes for renames and hard links, within a directory and across", async () => {
    const { id, merged } = await place.mount("names");
    const told = await look<unknown>(
      `
      p = lambda name: root + b"/tree/" + name
      os.rename(p(b"d0/f0"), p(b"d0/renamed"))
      os.rename(p(b"d0/f1"), p(b"d1/moved"))
      os.rename(p(b"d0/f2"), p(b"d1/f2"))
      os.link(p(b"d0/f3"), p(b"d2/linked"))
      os.rename(p(b"d3"), p(b"d4"))
      os.rename(p(b"d4"), p(b"d1/d5"))
      os.rename(p(b"d1"), root + b"/d6")
      tell([os.stat(p(b"d0/f3")).st_nlink, os.path.samefile(p(b"d0/f3"), p(b"d2/linked"))])`,
      merged,
    );
    expect(told).toEqual([2, true]);
    expect(await place.fetched(id)).toEqual(nothing);
    const now: Record<string, string> = {
      "tree/d0/renamed": "tree/d0/f0",
      "d6/moved": "tree/d0/f1",
      "d6/f2": "tree/d0/f2",
      "tree/d2/linked": "tree/d0/f3",
      "d6/d5/f7": "tree/d3/f7",
      "d6/f5": "tree/d1/f5",
    };
    const expected = Object.fromEntries(Object.entries(now).map(([name, was]) => [name, digests[was]!]));
    const [facts, wrong] = await look<[string[], string[]]>(lookAtTree, merged, expected);
    expect(wrong).toEqual([]);
    expect(facts).toHaveLength(1);
    await place.umount(id);
  });

  it("needs no registry; what needs bytes fails without it, changes nothing, and works when it is back", async () => {
    const { id, merged } = await place.mount("offline");
    const blobs = path.join(place.layout, "blobs");
    await rename(blobs, `${blobs}.away`);
    await exec("chown", ["-R", "1000:1000", path.join(merged, "tree")]);
    const attempts = `
      import json
      p = root + b"/tree/d0/f0"
      def append():
          with open(p, "ab") as f: f.write(b"more")
      def content():
          with open(p, "rb") as f: return sha(f.read())
      def facts():
          s = os.stat(p)
          return [s.st_uid, s.st_size]
      tell([outcome(content), outcome(append), facts()])`;
    expect(await look(attempts, merged)).toEqual(["EIO", "EIO", [1000, treeFileBytes]]);
    await rename(`${blobs}.away`, blobs);
    expect(await look(attempts, merged)).toEqual([digests["tree/d0/f0"], "ok", [1000, treeFileBytes + 4]]);
    await place.umount(id);
  });

  it("leaves a later write to bring the file's bytes, whole and right, with the metadata that was set", async () => {
    const { id, merged, upper } = await place.mount("later");
    const file = path.join(merged, "tree/d2/f3");
    await exec("chown", ["7:8", file]);
    await exec("setfattr", ["-n", "user.mine", "-v", "1", file]);
    await exec("chmod", ["640", file]);
    expect(await place.fetched(id)).toEqual(nothing);
    // The upper has the size of the file and none of its bytes: who copies an upper, copies holes.
    expect((await exec("stat", ["--format=%s %b", path.join(upper, "tree/d2/f3")])).stdout).toMatch(
      new RegExp(`^${treeFileBytes} [08]\n$`),
    );
    await look(
      `
      with opened(root, os.O_WRONLY) as fd: os.pwrite(fd, b"changed", 1000)
      tell(None)`,
      file,
    );
    const expected = noise("tree/d2/f3", treeFileBytes);
    expected.write("changed", 1000);
    const told = await look<unknown>(
      `
      s = os.stat(root)
      with open(root, "rb") as f: tell([sha(f.read()), s.st_uid, s.st_gid, oct(s.st_mode), s.st_size, os.getxattr(root, "user.mine")])`,
      file,
    );
    const digest = createHash("sha256").update(expected).digest("hex");
    expect(told).toEqual([digest, 7, 8, "0o100640", treeFileBytes, "1"]);
    const copied = Number((await exec("stat", ["--format=%b", path.join(upper, "tree/d2/f3")])).stdout);
    expect(copied).toBeGreaterThanOrEqual(treeFileBytes / 512);
    await place.umount(id);
  });

  it("is not what touch of GNU does without -c: it opens the file for writing, and the bytes come", async () => {
    const { id, merged } = await place.mount("touch");
    await exec("touch", ["-c", path.join(merged, "tree/d0/f0")]);
    expect(await place.fetched(id)).toEqual(nothing);
    await exec("touch", [path.join(merged, "tree/d0/f0")]);
    expect((await place.fetched(id)).bytes).toBeGreaterThanOrEqual(treeFileBytes);
    await place.umount(id);
  });

  it("drops setuid with chown and keeps it with touch -c, as on any filesystem", async () => {
    const { id, merged } = await place.mount("setuid");
    const file = path.join(merged, "files/setuid");
    await exec("touch", ["-c", file]);
    expect((await exec("stat", ["--format=%a", file])).stdout).toBe("4755\n");
    await exec("chown", ["1234", file]);
    expect((await exec("stat", ["--format=%a", file])).stdout).toBe("755\n");
    expect(await place.fetched(id)).toEqual(nothing);
    await place.umount(id);
  });

  it("cannot be done to names deeper than 256 bytes in a way that moves them: EXDEV, and mv copies", async () => {
    const { id, merged } = await place.mount("deep");
    const file = path.join(merged, deepDirectory, "file");
    const moved = path.join(merged, "moved");
    const rename = `tell(fault(lambda: os.rename(root, raw(args[1]))))`;
    expect(await look(rename, file, moved)).toBe("EXDEV");
    expect(await look(`tell(fault(lambda: os.link(root, raw(args[1]))))`, file, moved)).toBe("EXDEV");
    expect(await look(rename, file, `${file}2`)).toBe("ok");
    expect(await place.fetched(id)).toEqual(nothing);
    await exec("mv", [`${file}2`, moved]);
    const digest = createHash("sha256").update(noise("deep", 4096)).digest("hex");
    expect(await look(`tell(sha(open(root, "rb").read()))`, moved)).toBe(digest);
    expect(await readdir(path.dirname(file))).toEqual([]);
    await place.umount(id);
  });

  it("is what the record of the mount says, with the reason", async () => {
    const { id } = await place.mount("why");
    const options = await overlayOptionsOf(place.host, id);
    expect(options.find(({ option }) => option === "metacopy=on")?.reason).toMatch(/fetch none of its bytes/);
    expect(options.find(({ option }) => option === "redirect_dir=on")?.reason).toMatch(/renamed/);
    await place.umount(id);
  });
});
