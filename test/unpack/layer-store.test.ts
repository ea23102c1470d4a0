import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cliFile, resultOf } from "../support/skim-cli.js";
import { differences, dumpTree } from "../support/tree-dump.js";
import { makeUnpackPlace, type UnpackPlace } from "./unpack-place.js";

let place: UnpackPlace;
const big = randomBytes(3_000_000);
beforeEach(async () => {
  place = await makeUnpackPlace();
});
afterEach(() => place.registry.close());

const base = [
  { path: "big", content: big },
  { path: "small", content: "small" },
  { path: "empty", content: "" },
];
/** Requests for layers: everything else of an image is small and counted apart. */
const addImages = async () => {
  const one = await place.add("one", [base, [{ path: "one", content: "1" }]]);
  const two = await place.add("two", [base, [{ path: "two", content: "2" }]]);
  return { one, two };
};

async function storedLayers(): Promise<string[]> {
  const dir = path.join(place.cacheDir, "layers/v1/sha256");
  const names = await readdir(dir);
  return names.filter((name) => !name.endsWith(".lock")).map((name) => path.join(dir, name));
}
/** The store's directory of the layer with `big`. */
async function storedBase(): Promise<string> {
  for (const dir of await storedLayers()) if ((await stat(path.join(dir, "0"))).size > big.length) return dir;
  throw new Error("the base layer is not in the store");
}
const digestOfTree = async (tree: string) =>
  createHash("sha256")
    .update(await readFile(path.join(place.trees, tree, "big")))
    .digest("hex");
const digest = createHash("sha256").update(big).digest("hex");

describe("the store of extracted layers", () => {
  it("has each layer once for all images", async () => {
    await addImages();
    expect(await place.unpack("one", "a")).toMatchObject({ mode: "copy", layersReused: 0 });
    const before = place.registry.counters.bytesSent;
    expect(await place.unpack("two", "b")).toMatchObject({ mode: "copy", layersReused: 1 });
    expect(place.registry.counters.bytesSent - before).toBeLessThan(big.length / 10);
    expect(await storedLayers()).toHaveLength(3);
    expect(await digestOfTree("b")).toBe(digest);
  });

  it("shares no inode with the trees: who writes in a tree changes nothing else", async () => {
    await addImages();
    await place.unpack("one", "a");
    await writeFile(path.join(place.trees, "a/big"), "changed");
    await place.unpack("two", "b");
    expect(await digestOfTree("b")).toBe(digest);
    expect((await stat(path.join(await storedBase(), "0"))).nlink).toBe(1);
  });

  it("is read by eight calls of one process, and extracted once", async () => {
    const { one } = await addImages();
    const blobs = place.registry.counters.blobRequests;
    const trees = Array.from({ length: 8 }, (_, i) => `t${i}`);
    const all = await Promise.all(trees.map((tree) => place.unpack("one", tree)));
    // Each asks for the config.
    expect(place.registry.counters.blobRequests - blobs).toBe(one.layerDigests.length + trees.length);
    expect(all.reduce((sum, { layersReused }) => sum + layersReused, 0)).toBe(2 * trees.length - 2);
    const dumps = await Promise.all(trees.map((tree) => dumpTree(path.join(place.trees, tree))));
    for (const dump of dumps) expect(differences(dumps[0]!, dump)).toEqual([]);
  });

  it("is read by eight processes, and extracted once; eight for one directory make it once", async () => {
    const { one } = await addImages();
    const blobs = place.registry.counters.blobRequests;
    const run = (tree: string) =>
      resultOf(
        spawn(
          process.execPath,
          [
            cliFile,
            "unpack",
            place.name("one"),
            path.join(place.trees, tree),
            "--json",
            "--cache-dir",
            place.cacheDir,
          ],
          { stdio: ["pipe", "pipe", "pipe"] },
        ),
      );
    const results = await Promise.all(["a", "b", "c", "d", "same", "same", "same", "same"].map(run));
    expect(results.map(({ code, stderr }) => [code, stderr])).toEqual(results.map(() => [0, ""]));
    expect(place.registry.counters.blobRequests - blobs).toBe(one.layerDigests.length + results.length);
    const unchanged = results.slice(4).map(({ stdout }) => JSON.parse(stdout).unchanged);
    expect(unchanged.filter((same) => !same)).toHaveLength(1);
    for (const tree of ["a", "b", "c", "d", "same"]) expect(await digestOfTree(tree)).toBe(digest);
  });

  describe("is not believed", () => {
    const otherBoot = async () => {
      const file = path.join(await storedBase(), "complete");
      await writeFile(
        file,
        JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), bootId: "another" }),
      );
    };
    const flip = async (name: string) => {
      const file = path.join(await storedBase(), name);
      const bytes = await readFile(file);
      bytes[bytes.length >> 1]! ^= 1;
      await writeFile(file, bytes);
    };
    const damages: ReadonlyArray<readonly [what: string, damage: () => Promise<void>]> = [
      ["where its data are cut", async () => truncate(path.join(await storedBase(), "0"), 1000)],
      ["where its entries are flipped", () => flip("entries")],
      [
        "without the mark that it is complete",
        async () => writeFile(path.join(await storedBase(), "complete"), ""),
      ],
      [
        "where its data are torn, after a start of the machine",
        async () => {
          await otherBoot();
          await flip("0");
        },
      ],
    ];
    it.each(damages)("%s", async (_, damage) => {
      await addImages();
      await place.unpack("one", "a");
      await damage();
      expect(await place.unpack("two", "b")).toMatchObject({ layersReused: 0 });
      expect(await digestOfTree("b")).toBe(digest);
      expect(await place.unpack("one", "c")).toMatchObject({ layersReused: 2 });
    });

    it("but is after a start of the machine, when its data are what they were", async () => {
      await addImages();
      await place.unpack("one", "a");
      await otherBoot();
      expect(await place.unpack("two", "b")).toMatchObject({ layersReused: 1 });
    });
  });

  it("that cannot be used is done without by auto, which says why, and not by copy", async () => {
    await addImages();
    await mkdir(place.cacheDir);
    await writeFile(path.join(place.cacheDir, "layers"), "in the way");
    await expect(place.unpack("one", "a", { mode: "copy" })).rejects.toMatchObject({
      code: "LOCAL_IO",
      message: expect.stringMatching(/store of extracted layers cannot be used: ENOTDIR/),
    });
    const unpacked = await place.unpack("one", "a");
    expect(unpacked).toMatchObject({ mode: "extract", reason: expect.stringMatching(/ENOTDIR/) });
    expect(await digestOfTree("a")).toBe(digest);
  });

  it("that is full ends the call: the other mode is not tried", async () => {
    await addImages();
    await mkdir(place.cacheDir);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", place.cacheDir]);
    try {
      await expect(place.unpack("one", "a")).rejects.toMatchObject({
        code: "LOCAL_IO",
        message: expect.stringMatching(/ENOSPC/),
      });
      expect(await place.names()).toEqual([".a.skim-unpack"]);
      expect((await storedLayers()).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    } finally {
      execFileSync("umount", [place.cacheDir]);
    }
  });

  it.each(["xfs", "btrfs"])("shares blocks with trees on %s", async (type) => {
    await addImages();
    const image = path.join(place.dir, "filesystem");
    const mountpoint = path.join(place.dir, "mnt");
    await writeFile(image, "");
    await truncate(image, 512 * 2 ** 20);
    execFileSync(`mkfs.${type}`, ["-q", image]);
    await mkdir(mountpoint);
    execFileSync("mount", ["-o", "loop", image, mountpoint]);
    try {
      const settings = { cacheDir: path.join(mountpoint, "cache") };
      const directory = path.join(mountpoint, "tree");
      const unpacked = await place.unpack("one", "", { settings, directory });
      // All blocks of the large file but its last.
      expect(unpacked.sharedBytes).toBe(big.length - (big.length % 4096));
      expect(
        createHash("sha256")
          .update(await readFile(path.join(directory, "big")))
          .digest("hex"),
      ).toBe(digest);
      expect((await place.unpack("one", "elsewhere", { settings })).sharedBytes).toBe(0);
      expect(await digestOfTree("elsewhere")).toBe(digest);
    } finally {
      execFileSync("umount", [mountpoint]);
    }
  });

  it("is found by diffId, however the layer is compressed", async () => {
    const { one } = await addImages();
    await place.unpack("one", "a");
    const blob = await readFile(path.join(place.layout, "blobs/sha256", one.layerDigests[0]!.slice(7)));
    await place.add("plain", [{ tar: gunzipSync(blob), blob: gunzipSync(blob) }]);
    expect(await place.unpack("plain", "b")).toMatchObject({
      layersReused: 1,
      fetchedBytes: 0,
      warnings: [],
    });
  });
});
