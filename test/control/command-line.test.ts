import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findMount } from "../../src/fuse/mount-table.js";
import { DaemonHost } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

type Listed = { id: string; kind: string; pid: number; alive: boolean; imageId?: string }[];

/** The same commands, with a daemon and without one. */
describe("the command line", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;
  let daemonPid: number;

  beforeAll(async () => {
    dir = await makeTempDir("commands");
    images = await startControlImages(dir);
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
    daemonPid = (await host.start()).pid!;
  });

  afterAll(async () => await images.registry.close());

  const ways: [string, string[], boolean][] = [
    ["the daemon", [], true],
    ["a server of its own, with --no-daemon", ["--no-daemon"], false],
    ["a server of its own that traces, with --trace-operations", ["--trace-operations"], false],
    ["a server of its own, with another cache", ["--cache-dir", "CACHE"], false],
  ];

  const given = (options: string[]) =>
    options.map((each) => (each === "CACHE" ? path.join(dir, "cache") : each));

  it.each(ways)("mounts a rootfs through %s, and undoes it", async (_, options, isShared) => {
    const rootfs = await host.skim.json<Record<"merged" | "upper" | "lower" | "work", string>>([
      ...["rootfs", "mount", archive, "--id", "r", ...given(options)],
    ]);
    expect((await exec("cat", [`${rootfs.merged}/name`])).stdout).toBe("image 0\n");
    const listed = (await host.skim.json<Listed>(["ps"])).find(({ id }) => id === "r");
    expect(listed).toMatchObject({ id: "r", kind: "rootfs", alive: true });
    expect(listed!.pid === daemonPid).toBe(isShared);
    expect(listed!.imageId !== undefined).toBe(isShared);
    const stats = await host.skim.json<{ id: string; operations: Record<string, number> }>(["stats", "r"]);
    expect(stats.id).toBe("r");
    expect(stats.operations.read).toBeGreaterThan(0);
    await host.skim.ok(["rootfs", "umount", "r"]);
    for (const place of [rootfs.merged, rootfs.upper]) expect(findMount(place)).toBeUndefined();
    expect((await host.skim.run(["rootfs", "umount", "r"])).stderr).toContain("NOT_FOUND");
  });

  it.each(ways)(
    "shows an image at a directory through %s, and takes it away by its directory",
    async (_, options, isShared) => {
      const directory = path.join(dir, "shown");
      await mkdir(directory, { recursive: true });
      const mounted = await host.skim.json<{ pid: number; mountpoint: string; id: string }>([
        ...["mount", archive, directory, ...given(options)],
      ]);
      expect(mounted.mountpoint).toBe(directory);
      expect(mounted.pid === daemonPid).toBe(isShared);
      expect((await exec("cat", [`${directory}/name`])).stdout).toBe("image 0\n");
      await host.skim.ok(["umount", directory]);
      expect(findMount(directory)).toBeUndefined();
      expect((await host.skim.run(["umount", mounted.id])).stderr).toContain("NOT_FOUND");
    },
  );

  it.each(ways)("runs a container through %s, with its output and exit code", async (_, options) => {
    const ran = await host.skim.run([
      ...["run", ...given(options)],
      archive,
      "--",
      "sh",
      "-c",
      "cat /name; exit 7",
    ]);
    expect(ran).toMatchObject({ code: 7, stdout: "image 0\n", stderr: "" });
  });

  it("makes a bundle that stays, for a runtime of the caller's", async () => {
    const bundle = path.join(dir, "bundle");
    await host.skim.ok(["bundle", archive, bundle, "--", "cat", "/name"]);
    const [made] = (await host.skim.json<Listed>(["ps"])).filter(({ kind }) => kind === "bundle");
    expect(made).toMatchObject({ pid: daemonPid });
    const { stdout } = await exec("runc", [
      "--root",
      path.join(dir, "runc"),
      "run",
      "--bundle",
      bundle,
      "of-bundle",
    ]);
    expect(stdout).toBe("image 0\n");
    await host.skim.ok(["rootfs", "umount", made!.id]);
    expect((await host.skim.json<Listed>(["ps"])).filter(({ kind }) => kind !== "image")).toEqual([]);
  });

  it("says what it cannot do in the same words", async () => {
    const full = path.join(dir, "full");
    await mkdir(path.join(full, "mine"), { recursive: true });
    for (const options of [[], ["--no-daemon"]]) {
      const refused = [
        await host.skim.run(["mount", archive, full, ...options]),
        await host.skim.run(["rootfs", "mount", archive, "--id", "x", "--merged", full, ...options]),
        await host.skim.run(["rootfs", "mount", archive, "--id", "../x", ...options]),
        await host.skim.run(["rootfs", "mount", path.join(dir, "none.skim"), "--id", "x", ...options]),
        await host.skim.run(["run", ...options, archive, "--", "no-such-program"]),
      ];
      expect(refused.map(({ code }) => code)).toEqual([8, 8, 2, 3, 127]);
    }
    expect((await host.skim.json<Listed>(["ps"])).filter(({ kind }) => kind !== "image")).toEqual([]);
  });

  it("works on when the daemon has ended", async () => {
    await host.shutdown();
    const ran = await host.skim.run(["run", archive, "--", "cat", "/name"]);
    expect(ran).toMatchObject({ code: 0, stdout: "image 0\n", stderr: "" });
    expect(await host.leftovers()).toEqual([]);
  });
});
