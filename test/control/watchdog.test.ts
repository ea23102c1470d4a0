import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DaemonHost, eventually } from "../support/daemon-host.js";
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
