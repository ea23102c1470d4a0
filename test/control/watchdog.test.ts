import { execFile } from "node:child_process";
import { closeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { silentLogger } from "../../src/base/logger.js";
import type { SharedImage } from "../../src/control/shared-images.js";
import { Watchdog } from "../../src/control/watchdog.js";
import { connectFuse } from "../../src/fuse/fuse-connection.js";
import { MNT_DETACH } from "../../src/fuse/umount-flags.js";
import { type MountRecord, MountRecords } from "../../src/mount/mount-record.js";
import { loadNative } from "../../src/native/load.js";
import { DaemonHost, eventually, pause } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

describe("a server that does nothing any more", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;

  beforeAll(async () => {
    dir = await makeTempDir("stopped");
    images = await startControlImages(dir);
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
  });

  afterAll(async () => await images.registry.close());

  it("is killed and replaced, and whoever reads waits for that, and reads", async () => {
    await host.start([], { SKIM_WATCHDOG_MS: "1500" });
    const { merged } = await host.client.createRootfs({ id: "on", image: archive });
    await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    const before = await host.pid();
    process.kill(before, "SIGSTOP");
    await exec("sha256sum", ["--quiet", "-c", "sums"], { cwd: merged });
    await eventually("the stopped server is gone", () => host.servers().every(({ pid }) => pid !== before));
    expect((await host.client.list("rootfs")).map(({ id, alive }) => [id, alive])).toEqual([["on", true]]);
    await host.client.remove("on");
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });
});

describe("a mount that answers nothing", () => {
  it("makes its server end so that another one tries, and is aborted when two of these could not: then its readers get an error", async () => {
    const dir = await makeTempDir("wedged");
    const mountpoint = path.join(dir, "m");
    await mkdir(mountpoint);
    const native = loadNative();
    // Mounted, and served by nobody.
    const { descriptor, mount } = await connectFuse(
      { mountpoint, allowOther: true, fsName: "skim:wedged" },
      native,
    );
    const records = new MountRecords(dir);
    const record: MountRecord = {
      recordVersion: 1,
      ...{ id: "wedged", kind: "image", reference: "r", archive: "/a", lower: mountpoint },
      ...{ logFile: "/l", createdAt: "now", madeDirectories: [] },
    };
    await records.create(record);
    const session = {
      deviceMinor: mount.deviceMinor,
      operations: { snapshot: () => ({ lookup: 1 }) },
      describe: () => "nobody",
    };
    const image = { id: "wedged", users: new Set(["one"]), served: { session } } as unknown as SharedImage;
    const restarts: number[] = [];
    const watchdog = new Watchdog({
      keeper: { beat: () => {} },
      images: { list: () => [image] },
      records,
      logger: silentLogger,
      watchdogMs: 3_600_000,
      wedgedMs: 0,
      restart: () => restarts.push(1),
    });
    const looks = async () => {
      await watchdog.look();
      await pause(2);
      await watchdog.look();
    };
    try {
      await looks();
      // FUSE_INIT waits from the beginning, as any reader would.
      expect(restarts).toHaveLength(1);
      expect((await records.find("wedged"))?.wedged).toBe(1);
      const reader = exec("stat", ["-f", mountpoint]);
      reader.catch(() => {});
      await looks();
      expect([restarts.length, (await records.find("wedged"))?.wedged]).toEqual([2, 2]);
      await looks();
      expect(restarts).toHaveLength(2);
      await expect(reader).rejects.toThrow(/not connected|abort/i);
    } finally {
      watchdog.stop();
      closeSync(descriptor);
      await native.umount(mountpoint, MNT_DETACH);
    }
  });
});
