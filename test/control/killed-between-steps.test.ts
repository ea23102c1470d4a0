import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type HaltingPoint, haltingPoints } from "../../src/base/halt.js";
import { MountRecords } from "../../src/mount/mount-record.js";
import { DaemonHost, eventually } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

/** Of a plain mount, which has no overlay. */
const ofPlainMounts: readonly HaltingPoint[] = [
  "record-created",
  "image-recorded",
  "image-connected",
  "image-served",
  "image-completed",
];

describe("a daemon that is killed between two steps", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;

  beforeAll(async () => {
    dir = await makeTempDir("steps");
    images = await startControlImages(dir, { files: 1, fileBytes: 1000 });
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
    await mkdir(path.join(dir, "shown"));
  });

  afterAll(async () => await images.registry.close());

  /** The next daemon cleans up: nothing is left but what was whole, and then it can be undone as ever. */
  async function nextCleansUp(): Promise<void> {
    await host.start(["--no-restart"], { SKIM_IMAGE_IDLE_MS: "0" });
    for (const { id, kind, complete } of await new MountRecords(host.skim.runDir).list()) {
      if (kind === "image") continue;
      expect(complete, `${id} is left, and not whole`).toBe(true);
      await host.client.remove(id);
    }
    await eventually("no image is mounted", async () => (await host.client.list()).length === 0);
    expect(await host.skim.leftovers()).toEqual([]);
    expect(await host.client.leftovers()).toEqual([]);
    const holder = host.holders();
    expect(holder).toHaveLength(1);
    expect(await fuseDescriptors(holder[0]!.pid)).toBe(0);
    expect(await fuseDescriptors(await host.pid())).toBe(0);
    // Also of a next mount of the same name.
    const { merged } = await host.client.createRootfs({ id: "again", image: archive });
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.client.remove("again");
    await eventually("no image is mounted", async () => (await host.client.list()).length === 0);
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  }

  /** Sends a request that its daemon does not survive. */
  async function dies(
    point: HaltingPoint,
    method: "POST" | "DELETE",
    url: string,
    body?: object,
  ): Promise<void> {
    const child = await host.start(["--no-restart"], { SKIM_HALT_AT: point, SKIM_IMAGE_IDLE_MS: "0" });
    const exit = once(child, "exit");
    if (method === "DELETE") {
      if (url.endsWith("/halted-mount")) await host.client.createMount(shown());
      else await host.client.createRootfs({ id: "halted", image: archive });
    }
    // Once: a client would ask the next daemon again.
    await host.ask(method, url, body).catch(() => {});
    expect((await exit)[1], `halted at ${point}`).toBe("SIGKILL");
  }

  const shown = () => ({ id: "halted-mount", image: archive, directory: path.join(dir, "shown") });

  it.each(haltingPoints.mounting)("mounting a rootfs: %s", async (point) => {
    await dies(point, "POST", "/v1/rootfs", { id: "halted", image: archive });
    await nextCleansUp();
  });

  it.each(["upper-seeded", "overlay-mounted"] as const)(
    "mounting a rootfs with its upper in memory: %s",
    async (point) => {
      await dies(point, "POST", "/v1/rootfs", { id: "halted", image: archive, tmpfsUpper: true });
      await nextCleansUp();
    },
  );

  it("mounting a rootfs with directories of the caller's: these stay, empty", async () => {
    const [upper, merged] = [path.join(dir, "upper"), path.join(dir, "merged")];
    for (const directory of [upper, merged]) await mkdir(directory);
    await dies("overlay-mounted", "POST", "/v1/rootfs", { id: "halted", image: archive, upper, merged });
    await nextCleansUp();
    expect(await readdir(merged)).toEqual([]);
    for (const directory of [upper, merged]) await rm(directory, { recursive: true });
  });

  it.each(haltingPoints.unmounting)("unmounting a rootfs: %s", async (point) => {
    await dies(point, "DELETE", "/v1/mounts/halted");
    await nextCleansUp();
  });

  it.each(ofPlainMounts)("mounting an image at a directory: %s", async (point) => {
    await dies(point, "POST", "/v1/mounts", shown());
    await nextCleansUp();
    expect(await readdir(path.join(dir, "shown"))).toEqual([]);
  });

  it.each(["overlay-undone", "directories-removed", "record-removed"] as const)(
    "unmounting an image from a directory: %s",
    async (point) => {
      await dies(point, "DELETE", "/v1/mounts/halted-mount");
      await nextCleansUp();
    },
  );
});

/** How many connections to the kernel a process has. */
async function fuseDescriptors(pid: number): Promise<number> {
  const { stdout } = await exec("sh", [
    "-c",
    'ls -l "/proc/$1/fd" | grep -c /dev/fuse || true',
    "sh",
    String(pid),
  ]);
  return Number(stdout);
}
