import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DaemonHost, eventually, killAndWait } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

describe("a daemon in bad surroundings", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;

  beforeAll(async () => {
    dir = await makeTempDir("bad");
    images = await startControlImages(dir);
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
  });

  afterAll(async () => await images.registry.close());

  it("is one where several are started at the same moment: the last one serves, the others have let go", async () => {
    const children = Array.from({ length: 4 }, () => host.spawn());
    await eventually("one is left", async () => {
      const running = children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
      return running.length === 1 && (await host.health())?.pid === running[0]!.pid;
    });
    expect(host.holders()).toHaveLength(1);
    const { merged } = await host.client.createRootfs({ id: "one", image: archive });
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.client.remove("one");
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("starts with records of garbage, and serves; they are shown as what they are", async () => {
    const mounts = path.join(host.skim.runDir, "mounts");
    await mkdir(mounts, { recursive: true, mode: 0o700 });
    await writeFile(path.join(mounts, "garbage.json"), "{");
    await writeFile(path.join(mounts, "old.json"), JSON.stringify({ recordVersion: 99, id: "old" }));
    await writeFile(path.join(mounts, ".hidden.json"), "");
    await writeFile(path.join(mounts, "half.json.999999999.new"), "{");
    await host.start();
    const { merged } = await host.client.createRootfs({ id: "a.b-c_d", image: archive });
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.client.remove("a.b-c_d");
    const unreadable = ["garbage", "old"].map((name) => path.join(mounts, `${name}.json`));
    const shown = await host.client.leftovers();
    expect(shown.map(({ name }) => name).sort()).toEqual(unreadable);
    for (const { why, kept } of shown) {
      expect(why).toContain("cannot be read");
      expect(kept).toBeDefined();
    }
    await expect(host.client.createRootfs({ id: "garbage", image: archive })).rejects.toMatchObject({
      code: "IN_USE",
    });
    await host.client.leftovers({ remove: true, all: true });
    await host.client.createRootfs({ id: "garbage", image: archive });
    await host.client.remove("garbage");
    await host.shutdown();
    await exec("rm", ["-f", path.join(mounts, ".hidden.json")]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("with a full run directory refuses mounts, leaves nothing of them, and goes on", async () => {
    const small = await DaemonHost.make();
    await mkdir(small.skim.runDir, { mode: 0o700 });
    await exec("mount", ["-t", "tmpfs", "-o", "size=512k,mode=0700", "skim-test", small.skim.runDir]);
    try {
      await small.start();
      const first = await small.client.createRootfs({ id: "first", image: archive });
      await exec("sh", [
        "-c",
        'dd if=/dev/zero of="$1"/filler bs=1k >/dev/null 2>&1 || true',
        "sh",
        small.skim.runDir,
      ]);
      const failure = await small.client
        .createRootfs({ id: "second", image: archive })
        .catch((error) => error);
      expect(failure).toMatchObject({ code: "LOCAL_IO" });
      expect((await exec("cat", [`${first.merged}/name`])).stdout).toBe("image 0\n");
      await exec("rm", [path.join(small.skim.runDir, "filler")]);
      await small.client.createRootfs({ id: "second", image: archive });
      await small.shutdown(true);
      expect((await small.leftovers()).filter((each) => !each.includes("skim-test"))).toEqual([]);
    } finally {
      await small.end();
      await exec("umount", ["-l", small.skim.runDir]);
    }
  });

  it("told to end while mounts are under way ends when they are done, or leaves them to the next one", async () => {
    const child = await host.start();
    const made = Array.from({ length: 20 }, (_, i) =>
      host.client.createRootfs({ id: `t${i}`, image: archive }),
    );
    await eventually("some are under way", async () => ((await host.health())?.pending ?? 0) > 0);
    await killAndWait(child.pid!, "SIGTERM");
    await host.start();
    // Refused or asked again: none is lost, none is there that nobody was told of.
    const results = await Promise.allSettled(made);
    const done = results.flatMap((result) => (result.status === "fulfilled" ? [result.value.id] : []));
    for (const result of results)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "BUSY" });
    const listed = (await host.client.list("rootfs")).map(({ id }) => id);
    expect(listed.sort()).toEqual(done.sort());
    await host.shutdown(true);
    expect(await host.leftovers()).toEqual([]);
  });

  it("removes what is asked to be removed while it is being made, or says that there is nothing", async () => {
    await host.start();
    const work = Array.from({ length: 30 }, async (_, i) => {
      const id = `x${i % 6}`;
      if (i % 2 === 0) await host.client.createRootfs({ id, image: archive });
      else await host.client.remove(id);
    });
    for (const result of await Promise.allSettled(work))
      if (result.status === "rejected") expect(["IN_USE", "NOT_FOUND"]).toContain(result.reason.code);
    // And a look at what is left over, while all of it goes on, finds nothing.
    expect(await host.client.leftovers()).toEqual([]);
    await host.shutdown(true);
    expect(await host.leftovers()).toEqual([]);
  });
});
