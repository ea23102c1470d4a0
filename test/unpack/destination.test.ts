import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { differences, dumpTree } from "../support/tree-dump.js";
import { makeUnpackPlace, type UnpackPlace } from "./unpack-place.js";

let place: UnpackPlace;
beforeAll(async () => {
  place = await makeUnpackPlace();
  await place.add("one", [[{ path: "f", content: "one" }], [{ path: "d/g", content: "more" }]]);
  await place.add("two", [[{ path: "f", content: "two" }]]);
  await place.add("bad", [
    [{ path: "f", content: "bad" }],
    { tar: Buffer.alloc(1024), diffId: `sha256:${"0".repeat(64)}` },
  ]);
});
afterAll(() => place.registry.close());

const at = (tree: string, name = "") => path.join(place.trees, tree, name);
const text = (tree: string, name: string) => readFile(at(tree, name), "utf8");
/** Changes with every change of the directory itself. */
const identity = async (tree: string) => {
  const { ino, ctimeNs } = await stat(at(tree), { bigint: true });
  return `${ino} ${ctimeNs}`;
};

describe("a directory to unpack into", () => {
  it("may be new or empty, and is the image afterwards, with nothing of ours in it", async () => {
    await mkdir(at("empty"));
    for (const tree of ["new", "empty"]) {
      const unpacked = await place.unpack("one", tree);
      expect(unpacked).toMatchObject({ directory: at(tree), unchanged: false, ownership: "kept", files: 4 });
      expect((await readdir(at(tree))).sort()).toEqual(["d", "f"]);
      expect(await text(tree, "f")).toBe("one");
    }
    expect(await place.names()).toEqual([".empty.skim-unpack", ".new.skim-unpack", "empty", "new"]);
  });

  it("that has the image already is not touched, nor the registry's layers asked for", async () => {
    await place.unpack("one", "again");
    const before = [await identity("again"), place.registry.counters.blobRequests];
    // The config is a blob, too: it is looked at to know the image.
    const again = await place.unpack("one", "again");
    expect(again).toMatchObject({ unchanged: true, files: 4, fetchedBytes: 0 });
    expect(await identity("again")).toBe(before[0]);
    await expect(place.unpack("one", "again", { mode: "extract" })).resolves.toMatchObject({
      unchanged: true,
    });
  });

  it("needs no registry at all where the image is named by its digest and there already", async () => {
    const { manifestDigest } = await place.add("pinned", [[{ path: "p", content: "p" }]]);
    await place.unpack(manifestDigest, "pinned");
    const before = place.registry.counters.requests;
    expect(await place.unpack(manifestDigest, "pinned")).toMatchObject({ unchanged: true, manifestDigest });
    expect(place.registry.counters.requests).toBe(before);
  });

  it("is replaced by another image as a whole", async () => {
    await place.unpack("one", "replaced");
    await writeFile(at("replaced", "mine"), "written by a container");
    expect(await place.unpack("two", "replaced")).toMatchObject({ unchanged: false });
    expect(await readdir(at("replaced"))).toEqual(["f"]);
    expect(await text("replaced", "f")).toBe("two");
  });

  it.each(["copy", "extract", "auto"] as const)("is as it was when %s fails", async (mode) => {
    await place.unpack("one", "kept");
    const before = [await identity("kept"), await dumpTree(at("kept"))] as const;
    const names = await place.names();
    await expect(place.unpack("bad", "kept", { mode })).rejects.toMatchObject({ code: "DIFF_ID_MISMATCH" });
    await expect(place.unpack("bad", "never", { mode })).rejects.toMatchObject({ code: "DIFF_ID_MISMATCH" });
    expect(await identity("kept")).toBe(before[0]);
    expect(differences(before[1], await dumpTree(at("kept")))).toEqual([]);
    expect((await place.names()).filter((name) => !names.includes(name))).toEqual([".never.skim-unpack"]);
    await rm(at(".never.skim-unpack"));
    // It is still known for what it is.
    expect(await place.unpack("one", "kept")).toMatchObject({ unchanged: true });
  });

  it("is left alone by who finds a container or a process in it, and by a no-op in any case", async () => {
    await place.unpack("one", "used");
    const inside = spawn("sleep", ["60"], { cwd: at("used"), stdio: "ignore" });
    try {
      await expect(place.unpack("two", "used")).rejects.toMatchObject({
        code: "IN_USE",
        message: expect.stringContaining(`process ${inside.pid} (sleep) has its working directory there`),
      });
      expect(await text("used", "f")).toBe("one");
      expect(await place.unpack("one", "used")).toMatchObject({ unchanged: true });
    } finally {
      inside.kill();
      await new Promise((resolve) => inside.once("close", resolve));
    }
    expect(await place.unpack("two", "used")).toMatchObject({ unchanged: false });
  });

  it("in which another mount namespace has its root is in use", async () => {
    await place.unpack("one", "contained");
    // As a runtime does it: a bind mount of the directory in a namespace of its own.
    const script = 'mount --make-rprivate / && mount --bind "$1" "$1" && echo ready && exec sleep 60';
    const child = spawn("unshare", ["-m", "sh", "-c", script, "sh", at("contained")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await expect(place.unpack("two", "contained")).rejects.toMatchObject({
        code: "IN_USE",
        message: expect.stringContaining(`process ${child.pid} (sleep) has it mounted at`),
      });
    } finally {
      child.kill();
      await new Promise((resolve) => child.once("close", resolve));
    }
    expect(await place.unpack("two", "contained")).toMatchObject({ unchanged: false });
  });

  it("with something that unpack did not make is refused and kept", async () => {
    await mkdir(at("foreign"));
    await writeFile(at("foreign", "mine"), "mine");
    await expect(place.unpack("one", "foreign")).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/not empty, and was not made by skim unpack/),
    });
    expect(await text("foreign", "mine")).toBe("mine");
  });

  it("whose name another directory has taken is not taken for it", async () => {
    await place.unpack("one", "moved");
    await rename(at("moved"), at("elsewhere"));
    await mkdir(at("moved"));
    expect(await place.unpack("one", "moved")).toMatchObject({ unchanged: false });
    await rm(at("moved"), { recursive: true });
    await rename(at("elsewhere"), at("moved"));
    await expect(place.unpack("one", "moved")).rejects.toMatchObject({ code: "USAGE" });
  });

  it("is where a symbolic link leads, which stays", async () => {
    await mkdir(at("target"));
    await symlink("target", at("link"));
    expect(await place.unpack("one", "link")).toMatchObject({ directory: at("target") });
    expect(await text("target", "f")).toBe("one");
    await symlink("nowhere", at("dangling"));
    await expect(place.unpack("one", "dangling")).rejects.toMatchObject({ code: "USAGE" });
  });

  it("can have a name of 255 bytes", async () => {
    const tree = "n".repeat(255);
    await place.unpack("one", tree);
    expect(await place.unpack("one", tree)).toMatchObject({ unchanged: true });
    expect(await place.unpack("two", tree)).toMatchObject({ unchanged: false });
  });

  it("that is a file, has no parent, or is a mount point is refused", async () => {
    await writeFile(at("file"), "");
    await expect(place.unpack("one", "file")).rejects.toMatchObject({ code: "USAGE" });
    await expect(place.unpack("one", "no/parent")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(place.unpack("one", "x", { directory: "/proc" })).rejects.toMatchObject({ code: "IN_USE" });
  });
});
