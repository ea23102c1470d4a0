import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { loadNative } from "../../src/native/load.js";
import { chooseOptions } from "../../src/overlay/mount-options.js";
import { UpperMark } from "../../src/overlay/upper-mark.js";
import { type EngineName, engines } from "../support/engines.js";
import { look } from "../support/look.js";
import { makeTempDir } from "../support/temp-dir.js";
import { changesSince, overlayOptionsOf, viewOf, WritingPlace } from "./writable-rootfs.js";
import { noise, treeFileBytes, writeWritingImage } from "./writing-image.js";

const exec = promisify(execFile);

const markName = "trusted.overlay.skim";
const sha = (bytes: string | Buffer) => createHash("sha256").update(bytes).digest("hex");
const treeFile = (name: string) => noise(name, treeFileBytes);

describe("an upper that is used again", () => {
  let place: WritingPlace;
  /** Another image, whose files have the same names. */
  let other: { readonly image: string; readonly manifestDigest: string };
  let upper: string;

  beforeAll(async () => {
    place = await WritingPlace.open();
    const more = [{ path: "files/append", content: "another image\n" }];
    const { manifestDigest } = await writeWritingImage(place.layout, more, "other");
    other = { image: `${place.registry.host}/writing@${manifestDigest}`, manifestDigest };
    await place.host.ok(["index", other.image]);
  });

  beforeEach(async () => {
    upper = path.join(await makeTempDir("reused"), "upper");
  });

  afterAll(async () => {
    await place.close();
  });

  /** One mount with `upper`, from beginning to end. */
  const withUpper = async <Told>(id: string, use: (merged: string) => Promise<Told>, engine?: EngineName) => {
    const { merged } = await place.mount(id, "--upper", upper, ...(engine ? ["--engine", engine] : []));
    const told = await use(merged);
    await place.umount(id);
    return told;
  };
  const mountOther = async () =>
    await place.host.run(["rootfs", "mount", other.image, "--id", "other", "--upper", upper]);
  const chownTree = async (merged: string) => await exec("chown", ["-R", "7:8", path.join(merged, "tree")]);

  const pairs = engines.flatMap((first) => engines.map((second) => ({ first, second })));
  it.each(pairs)(
    "by the same image shows what was changed, and can be changed on: written with engine $first, used with $second",
    async ({ first, second }) => {
      const change = async (merged: string) => {
        await chownTree(merged);
        await look(
          `
          at = lambda name: root + b"/" + raw(name)
          os.rename(at("tree/d1"), at("moved"))
          os.rename(at("tree/d2/f0"), at("moved/from-d2"))
          os.rename(at("tree/d3"), at("moved/d3"))
          os.link(at("tree/d0/f2"), at("files/link"))
          with open(at("tree/d0/f1"), "ab") as f: f.write(b"more")
          tell(None)`,
          merged,
        );
        return await viewOf(merged);
      };
      const changed = await withUpper("first", change, first);

      const changeOn = async (merged: string) => {
        // fuse-native tells times in milliseconds; everything that was changed here has its times from the upper or to the second.
        const precise = first === second ? changed : changed.map((line) => ({ ...line, mtimeNsec: 0 }));
        const differing = await changesSince(precise, merged, 1000);
        expect(differing.filter((line) => first === second || !line.includes(": mtimeNsec is"))).toEqual([]);
        return await look(
          `
          at = lambda name: root + b"/" + raw(name)
          def digest(name):
              with open(at(name), "rb") as f: return sha(f.read())
          with open(at("moved/f3"), "ab") as f: f.write(b"later")
          with open(at("moved/from-d2"), "r+b") as f: f.write(b"later")
          os.chown(at("moved/d3/f7"), 9, 9)
          os.rename(at("moved/d3"), at("tree/back"))
          os.rename(at("moved"), at("tree/d1"))
          s = os.stat(at("tree/back/f7"))
          tell([digest("tree/d1/f3"), digest("tree/d1/from-d2"), digest("tree/back/f7"), s.st_uid, digest("tree/d0/f1"), digest("files/link")])`,
          merged,
        );
      };
      const later = treeFile("tree/d2/f0");
      later.write("later");
      expect(await withUpper("second", changeOn, second)).toEqual([
        sha(Buffer.concat([treeFile("tree/d1/f3"), Buffer.from("later")])),
        sha(later),
        sha(treeFile("tree/d3/f7")),
        9,
        sha(Buffer.concat([treeFile("tree/d0/f1"), Buffer.from("more")])),
        sha(treeFile("tree/d0/f2")),
      ]);
    },
  );

  it("by another image is refused in one line that names both, and nothing is left of the attempt", async () => {
    await withUpper("mine", chownTree);
    const refused = await mountOther();
    expect(refused.code).not.toBe(0);
    expect(refused.stderr.trim().split("\n")).toEqual([
      `skim: MOUNT_FAILED: upper dir ${upper} holds changes to the image with manifest ${place.manifestDigest} and does not fit ${other.manifestDigest}: files would show wrong bytes; use it with that image, or another upper dir`,
    ]);
    expect(await place.host.leftovers()).toEqual([]);
    const told = await withUpper(
      "still",
      async (merged) =>
        await look(
          `
          p = root + b"/tree/d0/f0"
          with open(p, "rb") as f: tell([os.stat(p).st_uid, sha(f.read())])`,
          merged,
        ),
    );
    expect(told).toEqual([7, sha(treeFile("tree/d0/f0"))]);
  });

  it("fits any image when it is empty, whatever it held before", async () => {
    await withUpper("mine", chownTree);
    for (const name of await readdir(upper)) await rm(path.join(upper, name), { recursive: true });
    expect(await mountOther()).toMatchObject({ code: 0, stderr: "" });
    await place.umount("other");
    const { stdout } = await exec("getfattr", ["--only-values", "-n", markName, upper]);
    expect(JSON.parse(stdout)).toMatchObject({ manifestDigest: other.manifestDigest });
  });

  it("without a mark, from before skim kept one, is taken as it is and has one from then on", async () => {
    await mkdir(path.join(upper, "files"), { recursive: true });
    await writeFile(path.join(upper, "files/append"), "old\n");
    const read = async (merged: string) => await readFile(path.join(merged, "files/append"), "utf8");
    expect(await withUpper("old", read)).toBe("old\n");
    expect((await mountOther()).stderr).toContain(place.manifestDigest);
  });

  it("with a mark that is not understood is refused, and the mark stays", async () => {
    await mkdir(upper);
    await writeFile(path.join(upper, "file"), "");
    await exec("setfattr", ["-n", markName, "-v", "from the future", upper]);
    const refused = await place.host.run([
      ...["rootfs", "mount", place.image, "--id", "future", "--upper", upper],
    ]);
    expect(refused.stderr).toContain("has a mark that this version of skim does not read");
    const { stdout } = await exec("getfattr", ["--only-values", "-n", markName, upper]);
    expect(stdout).toBe("from the future");
    expect(await place.host.leftovers()).toEqual([]);
  });

  it("does not show its mark to who looks at the merged view, nor lets it be changed there", async () => {
    const told = await withUpper(
      "mark",
      async (merged) =>
        await look(
          `
          name = ${JSON.stringify(markName)}
          tell([os.listxattr(root), outcome(lambda: os.getxattr(root, name)), outcome(lambda: os.setxattr(root, name, b"mine"))])`,
          merged,
        ),
    );
    // overlayfs keeps a `trusted.overlay.` name that is set here under another one (from Linux 6.7 on), or refuses it.
    expect(told).toEqual([[], "ENODATA", expect.anything()]);
    const { stdout } = await exec("getfattr", ["--only-values", "-n", markName, upper]);
    expect(JSON.parse(stdout)).toMatchObject({ manifestDigest: place.manifestDigest });
  });

  it("is refused by a mount that lacks what it was written with, by name", async () => {
    await mkdir(upper);
    const native = loadNative();
    const metacopy = chooseOptions({ volatile: false, metacopy: true });
    (await UpperMark.read(upper, native)).write(place.manifestDigest, metacopy);
    await writeFile(path.join(upper, "file"), "");
    const mark = await UpperMark.read(upper, native);
    mark.requireOptions(metacopy);
    expect(() => mark.requireOptions(chooseOptions({ volatile: false, metacopy: false }))).toThrow(
      /was written with metacopy=on, and here overlayfs can only be mounted with .*metacopy=off/,
    );
  });

  it("copied with its attributes (cp -a) is as good as the first", async () => {
    const changed = await withUpper("copied", async (merged) => {
      await chownTree(merged);
      await exec("mv", [path.join(merged, "tree/d1"), path.join(merged, "moved")]);
      return await viewOf(merged);
    });
    await exec("cp", ["-a", upper, `${upper}-copy`]);
    upper = `${upper}-copy`;
    expect(await withUpper("copy", async (merged) => await changesSince(changed, merged))).toEqual([]);
  });

  it("is taken down also where its record is from before options were kept", async () => {
    await place.mount("aged", "--upper", upper);
    const file = path.join(place.host.runDir, "mounts/aged.json");
    const record = JSON.parse(await readFile(file, "utf8"));
    expect(record.overlay.options.length).toBeGreaterThan(0);
    delete record.overlay.options;
    await writeFile(file, JSON.stringify(record));
    expect(await overlayOptionsOf(place.host, "aged")).toEqual([]);
    expect(await place.umount("aged")).toBe(upper);
    expect(await place.host.leftovers()).toEqual([]);
  });
});
