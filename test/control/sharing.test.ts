import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readMountTable } from "../../src/fuse/mount-table.js";
import { DaemonHost, eventually } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);
const imageCount = 10;
const rootfsCount = 100;

describe("one FUSE mount for each image", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archives: string[];

  beforeAll(async () => {
    dir = await makeTempDir("shared");
    images = await startControlImages(dir, { images: imageCount, files: 2, fileBytes: 20_000 });
    host = await DaemonHost.make();
    archives = images.names.map((_, image) => path.join(dir, `${image}.skim`));
    for (const [image, name] of images.names.entries())
      await host.skim.ok(["index", name, "-o", archives[image]!]);
    await host.start([], { SKIM_IMAGE_IDLE_MS: "300" });
  });

  afterAll(async () => await images.registry.close());

  const fuseMounts = () =>
    readMountTable().filter(
      ({ type, mountpoint }) => type === "fuse.skim" && mountpoint.startsWith(host.skim.runDir),
    );
  const untilUnmounted = () =>
    eventually("no image is mounted", async () => (await host.client.list()).length === 0);

  it(`serves ${rootfsCount} rootfs that are wanted at once of ${imageCount} images from ${imageCount} mounts`, async () => {
    const made = await Promise.all(
      Array.from({ length: rootfsCount }, (_, i) =>
        host.client.createRootfs({ id: `r${i}`, image: archives[i % imageCount]! }),
      ),
    );
    expect(fuseMounts()).toHaveLength(imageCount);
    expect(new Set(made.map(({ imageId }) => imageId)).size).toBe(imageCount);
    expect(new Set(made.map(({ merged }) => merged)).size).toBe(rootfsCount);
    const { stdout } = await exec(
      "cat",
      made.map(({ merged }) => `${merged}/name`),
    );
    expect(stdout).toBe(made.map((_, i) => `image ${i % imageCount}\n`).join(""));
    expect(await host.client.health()).toMatchObject({ images: imageCount, rootfs: rootfsCount, pending: 0 });
    await Promise.all(made.map(({ id }) => host.client.remove(id)));
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("mounts an image once for those who come while others go", async () => {
    const counts: number[] = [];
    const turns = Array.from({ length: 8 }, async (_, worker) => {
      for (let turn = 0; turn < 6; turn++) {
        const id = `w${worker}-${turn}`;
        const { merged } = await host.client.createRootfs({ id, image: archives[0]! });
        counts.push(fuseMounts().length);
        expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
        await host.client.remove(id);
      }
    });
    await Promise.all(turns);
    expect(new Set(counts)).toEqual(new Set([1]));
    await untilUnmounted();
  });

  it("unmounts an image that nobody has used for a while, not one in use, and mounts it again for the next", async () => {
    const first = await host.client.createRootfs({ id: "one", image: archives[1]! });
    await host.client.createRootfs({ id: "two", image: archives[2]! });
    await host.client.remove("two");
    await eventually("the second image is unmounted", () => fuseMounts().length === 1);
    expect(fuseMounts().map(({ mountpoint }) => mountpoint)).toEqual([first.lower]);
    const again = await host.client.createRootfs({ id: "two", image: archives[2]! });
    expect((await exec("cat", [`${again.merged}/name`])).stdout).toBe("image 2\n");
    await host.client.remove("one");
    await host.client.remove("two");
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("leaves an idle image to who has a file open in it, and unmounts it when that is closed", async () => {
    const { lower } = await host.client.createRootfs({ id: "held", image: archives[3]! });
    const reader = execFile("sh", ["-c", 'exec 3<"$1"; echo open; read _', "sh", `${lower}/name`]);
    const ended = new Promise((resolve) => reader.once("close", resolve));
    await new Promise((resolve) => reader.stdout!.once("data", resolve));
    await host.client.remove("held");
    await eventually("the daemon has tried", async () =>
      (await host.client.list("image")).every((i) => i.users?.length === 0),
    );
    await host.client.createRootfs({ id: "joined", image: archives[3]! });
    await host.client.remove("joined");
    expect(fuseMounts()).toHaveLength(1);
    reader.stdin!.end("\n");
    await ended;
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("leaves nothing of a mount that fails", async () => {
    const full = path.join(dir, "full");
    await mkdir(full);
    await writeFile(path.join(full, "mine"), "");
    const damaged = path.join(dir, "damaged.skim");
    const bytes = await readFile(archives[0]!);
    await writeFile(damaged, bytes.subarray(0, bytes.length >> 1));
    await writeFile(path.join(dir, "empty.skim"), "");
    const file = path.join(dir, "a-file");
    await writeFile(file, "");
    const fails: [Parameters<typeof host.client.createRootfs>[0], string][] = [
      [{ id: "f1", image: archives[0]!, upper: path.join(dir, "no/such/upper") }, "MOUNT_FAILED"],
      [{ id: "f2", image: archives[0]!, upper: file }, "MOUNT_FAILED"],
      [{ id: "f3", image: archives[0]!, merged: full }, "MOUNT_FAILED"],
      [{ id: "f4", image: path.join(dir, "none.skim") }, "NOT_FOUND"],
      [{ id: "f5", image: damaged }, "ARCHIVE_DAMAGED"],
      [{ id: "f6", image: path.join(dir, "empty.skim") }, "ARCHIVE_DAMAGED"],
      [{ id: "f7", image: `${images.registry.host}/image:none` }, "NOT_FOUND"],
      [{ id: "f8", image: "127.0.0.1:1/image:v0" }, "REGISTRY_UNAVAILABLE"],
      [{ id: "f9", image: archives[0]!, dirs: [{ path: "/name/below" }] }, "MOUNT_FAILED"],
    ];
    for (const [request, code] of fails) {
      await expect(host.client.createRootfs(request), request.id).rejects.toMatchObject({ code });
      expect(await host.client.list("rootfs"), request.id).toEqual([]);
    }
    await expect(
      host.client.createMount({ id: "f10", image: archives[0]!, directory: path.join(dir, "nowhere") }),
    ).rejects.toMatchObject({ code: "MOUNT_FAILED" });
    await expect(
      host.client.createMount({ id: "f11", image: archives[0]!, directory: full }),
    ).rejects.toMatchObject({ code: "MOUNT_FAILED" });
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
    expect((await exec("ls", [full])).stdout).toBe("mine\n");
  });

  it("refuses an id that is taken, and of those who want it at once takes one", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) => host.client.createRootfs({ id: "same", image: archives[i % 3]! })),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of results)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "IN_USE" });
    const directory = path.join(dir, "same");
    await mkdir(directory);
    await expect(
      host.client.createMount({ id: "same", image: archives[0]!, directory }),
    ).rejects.toMatchObject({
      code: "IN_USE",
    });
    const { stderr, code } = await host.skim.run([
      "rootfs",
      "mount",
      "--no-daemon",
      archives[0]!,
      "--id",
      "same",
    ]);
    expect(code).not.toBe(0);
    expect(stderr).toContain("IN_USE");
    await host.client.remove("same");
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("gives a place that is wanted twice to one of them", async () => {
    const [merged, directory] = [path.join(dir, "place"), path.join(dir, "directory")];
    for (const place of [merged, directory]) await mkdir(place);
    const results = await Promise.allSettled([
      ...["p1", "p2", "p3"].map((id) => host.client.createRootfs({ id, image: archives[0]!, merged })),
      ...["p4", "p5", "p6"].map((id) => host.client.createMount({ id, image: archives[0]!, directory })),
    ]);
    expect(results.map(({ status }) => status).filter((status) => status === "fulfilled")).toHaveLength(2);
    const places = readMountTable().map(({ mountpoint }) => mountpoint);
    expect(places.filter((place) => place === merged || place === directory)).toHaveLength(2);
    for (const { id, kind } of await host.client.list()) if (kind !== "image") await host.client.remove(id);
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("lets two that share an upper dir not both have it", async () => {
    const upper = path.join(dir, "upper");
    const results = await Promise.allSettled(
      ["u1", "u2", "u3"].map((id) => host.client.createRootfs({ id, image: archives[0]!, upper })),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const { id } of await host.client.list("rootfs")) await host.client.remove(id);
    await untilUnmounted();
    expect(await host.skim.leftovers()).toEqual([]);
  });

  it("takes a file that has come to the place of an archive for another image", async () => {
    const file = path.join(dir, "replaced.skim");
    await copyFile(archives[4]!, file);
    const before = await host.client.createRootfs({ id: "before", image: file });
    const beside = `${file}.new`;
    await copyFile(archives[5]!, beside);
    await exec("mv", [beside, file]);
    const after = await host.client.createRootfs({ id: "after", image: file });
    const { stdout } = await exec("cat", [`${before.merged}/name`, `${after.merged}/name`]);
    expect(stdout).toBe("image 4\nimage 5\n");
    expect(after.imageId).not.toBe(before.imageId);
    for (const id of ["before", "after"]) await host.client.remove(id);
    await untilUnmounted();
  });
});

describe("a daemon with room for few mounts at once", () => {
  it("says BUSY when its queue is full, and when to come again", async () => {
    const dir = await makeTempDir("queue");
    const images = await startControlImages(dir);
    const host = await DaemonHost.make();
    await host.start([], { SKIM_MOUNT_QUEUE_MAX: "3" });
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) =>
        host.client.createRootfs({ id: `q${i}`, image: images.names[0]! }),
      ),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    for (const result of results)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "BUSY" });
    const asked = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        host.ask("POST", "/v1/rootfs", { id: `n${i}`, image: images.names[0] }),
      ),
    );
    const refused = asked.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    for (const { headers } of refused) expect(Number(headers["retry-after"])).toBeGreaterThan(0);
    // The queue empties.
    await host.client.createRootfs({ id: "later", image: images.names[0]! });
    await host.shutdown(true);
    await images.registry.close();
    expect(await host.leftovers()).toEqual([]);
  });
});

describe("files that a daemon was started from", () => {
  it("may be deleted under its mounts: reads go on, also from the server after it", async () => {
    const dir = await makeTempDir("deleted");
    const images = await startControlImages(dir, { files: 6, fileBytes: 1_500_000 });
    const host = await DaemonHost.make();
    const archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
    await host.start();
    const upper = path.join(dir, "upper");
    const { merged, lower } = await host.client.createRootfs({ id: "on", image: archive, upper });
    await exec("cat", [`${lower}/files/0`], { encoding: "buffer", maxBuffer: 4_000_000 });
    await rm(archive);
    await rm(host.skim.cacheDir, { recursive: true, force: true }).catch(() => {});
    const check = (below: string) => exec("sha256sum", ["--quiet", "-c", "sums"], { cwd: below });
    await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]).catch(() => {});
    await check(merged);
    const before = await host.killServer();
    await host.nextServer(before);
    await exec("sh", ["-c", "echo 1 > /proc/sys/vm/drop_caches"]).catch(() => {});
    await check(merged);
    expect(await host.client.list("rootfs")).toMatchObject([{ id: "on", alive: true }]);
    await host.client.remove("on");
    await host.shutdown();
    await images.registry.close();
    expect(await host.leftovers()).toEqual([]);
    await chmod(upper, 0o755);
  });
});
