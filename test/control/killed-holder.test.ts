import { execFile } from "node:child_process";
import { once } from "node:events";
import { access, mkdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { processEnded } from "../../src/base/process-identity.js";
import { findMount } from "../../src/fuse/mount-table.js";
import { DaemonHost, eventually, killAndWait } from "../support/daemon-host.js";
import { resultOf } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

describe("the death of the server and of what keeps its connections", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;

  beforeAll(async () => {
    dir = await makeTempDir("dead");
    images = await startControlImages(dir, { files: 3, fileBytes: 300_000 });
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive]);
  });

  afterAll(async () => await images.registry.close());

  const read = (root: string) => exec("sha256sum", ["--quiet", "-c", "sums"], { cwd: root });

  it("ends its mounts with ENOTCONN, and the next daemon cleans up and has everything in the cache", async () => {
    await host.start();
    const { merged, lower } = await host.client.createRootfs({ id: "warm", image: archive });
    const shown = path.join(dir, "shown");
    await mkdir(shown);
    await host.client.createMount({ id: "shown", image: archive, directory: shown });
    await host.client.warm({ image: archive });
    await read(merged);
    await host.killEverybody();
    // What the kernel has in memory can be read on.
    for (const root of [merged, lower, shown])
      await expect(exec("stat", [`${root}/not-looked-up-yet`])).rejects.toThrow(/not connected/);

    await host.start();
    expect(await host.client.list()).toEqual([]);
    for (const root of [merged, lower, shown]) expect(findMount(root)).toBeUndefined();
    expect(await host.skim.leftovers()).toEqual([]);
    const requests = images.registry.counters.blobRequests;
    const again = await host.client.createRootfs({ id: "warm", image: archive });
    await read(again.merged);
    expect(images.registry.counters.blobRequests).toBe(requests);
    await host.client.remove("warm");
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("leaves a rootfs alone that somebody uses, says so, and removes it when its user has gone", async () => {
    await host.start();
    const { merged } = await host.client.createRootfs({ id: "used", image: archive });
    const user = execFile("sleep", ["1000"], { cwd: merged });
    await once(user, "spawn");
    await host.killEverybody();
    await host.start();
    const leftovers = await host.skim.json<{ kind: string; name: string; kept?: string }[]>(["gc"]);
    expect(leftovers.map(({ kind }) => kind).sort()).toEqual(["image", "rootfs"]);
    expect(leftovers.find(({ name }) => name === "used")!.kept).toContain(`process ${user.pid} (sleep)`);
    expect(findMount(merged)).toBeDefined();
    // The image goes on being of use to others.
    const other = await host.client.createRootfs({ id: "other", image: archive });
    await read(other.merged);
    await host.client.remove("other");

    await killAndWait(user.pid!);
    const shown = await host.skim.json<{ name: string }[]>(["gc"]);
    expect(shown.map(({ name }) => name)).toContain("used");
    expect(findMount(merged)).toBeDefined();
    const removed = await host.skim.json<{ name: string; kept?: string }[]>(["gc", "--yes"]);
    expect(removed.map(({ kept }) => kept)).toEqual(removed.map(() => undefined));
    expect(findMount(merged)).toBeUndefined();
    expect(await host.skim.json(["gc"])).toEqual([]);
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("ends containers with ENOTCONN; those whose command has been killed as well are removed", async () => {
    await host.start();
    const script = "echo up; while :; do cat /name >/dev/null || { echo lost; exit 9; }; sleep 0.05; done";
    const container = host.skim.start(["run", "--id", "c1", archive, "--", "sh", "-c", script]);
    await once(container.stdout!, "data");
    const result = resultOf(container);
    await host.killEverybody();
    await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    const { code } = await result;
    expect(code).not.toBe(0);
    await host.start();
    expect(await host.skim.leftovers()).toEqual([]);
    const other = host.skim.start(["run", "--id", "c2", archive, "--", "sleep", "1000"]);
    const ended = once(other, "exit");
    await eventually("the container runs", () => isRunningContainer("c2"));
    await host.killEverybody();
    other.kill("SIGKILL");
    await ended;
    await host.start();
    await eventually("the container is gone", async () => !(await isRunningContainer("c2")));
    await eventually("nothing is left", async () => (await host.skim.leftovers()).length === 0);
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("keeps a writable layer that holds changes and says where, and removes one without", async () => {
    await host.start();
    const changed = await host.client.createRootfs({ id: "changed", image: archive });
    const clean = await host.client.createRootfs({ id: "clean", image: archive });
    const deleted = await host.client.createRootfs({ id: "deleted", image: archive });
    await writeFileOutside(`${changed.merged}/work`, "hours of it\n");
    await exec("rm", [`${deleted.merged}/files/0`]);
    await host.killEverybody();
    await host.start();
    await expect(access(clean.upper)).rejects.toThrow(/ENOENT/);
    const found = await host.skim.json<{ name: string; kept?: string }[]>(["gc"]);
    expect(found.map(({ name }) => name).sort()).toEqual(["changed", "deleted"]);
    expect(found.find(({ name }) => name === "changed")!.kept).toContain(changed.upper);
    expect(findMount(changed.merged)).toBeUndefined();
    expect((await exec("cat", [`${changed.upper}/work`])).stdout).toBe("hours of it\n");

    // Neither another start nor gc alone takes it.
    const before = await host.killServer();
    await host.nextServer(before);
    await host.skim.ok(["gc", "--yes"]);
    expect((await exec("cat", [`${changed.upper}/work`])).stdout).toBe("hours of it\n");
    await host.skim.ok(["rootfs", "umount", "changed"]);
    await expect(access(changed.upper)).rejects.toThrow(/ENOENT/);
    await host.skim.ok(["gc", "--yes", "--all"]);
    expect(await host.skim.leftovers()).toEqual([]);
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("takes no layer that was kept on purpose, nor one of another run directory that shares the cache", async () => {
    await host.start();
    const { merged, upper } = await host.client.createRootfs({ id: "kept", image: archive });
    await writeFileOutside(`${merged}/work`, "kept on purpose\n");
    await host.client.remove("kept", { keepUpper: true });
    const running = await host.client.createRootfs({ id: "running", image: archive });
    await writeFileOutside(`${running.merged}/work`, "at work\n");

    const other = await DaemonHost.make();
    const shared = { SKIM_CACHE_DIR: host.skim.cacheDir };
    await other.start([], shared);
    expect((await exec("cat", [`${upper}/work`])).stdout).toBe("kept on purpose\n");
    const found = await other.client.leftovers({ remove: true, all: true });
    expect(found.find(({ name }) => name === path.dirname(running.upper))?.kept).toContain(running.merged);
    await other.shutdown();
    expect((await exec("cat", [`${running.merged}/work`])).stdout).toBe("at work\n");
    await host.client.remove("running");
    await host.shutdown();
    expect(upper).not.toBe(running.upper);
    expect(await host.leftovers()).toEqual([]);
  });

  it("of the holder alone nobody notices: another one has everything", async () => {
    await host.start();
    const { merged } = await host.client.createRootfs({ id: "on", image: archive });
    const [holder] = host.holders();
    await killAndWait(holder!.pid);
    await eventually(
      "another holder is there",
      () => host.holders().length === 1 && host.holders()[0]!.pid !== holder!.pid,
    );
    await eventually("it holds everything", () =>
      host.lines.some((line) => line.includes("another holder holds everything")),
    );
    const before = await host.killServer();
    await host.nextServer(before);
    await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    await read(merged);
    await host.client.remove("on");
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("of who runs a container takes its rootfs and container along, with the daemon alive or started later", async () => {
    await host.start();
    for (const isServed of [true, false]) {
      const id = `owned-${isServed}`;
      const run = host.skim.start(["run", "--id", id, archive, "--", "sleep", "1000"]);
      const ended = once(run, "exit");
      await eventually("the container runs", () => isRunningContainer(id));
      if (!isServed) {
        await killAndWait(await host.pid(), "SIGTERM");
        expect(host.servers()).toEqual([]);
      }
      run.kill("SIGKILL");
      await ended;
      if (!isServed) await host.start();
      await eventually("the container is gone", async () => !(await isRunningContainer(id)));
      await eventually("its rootfs is gone", async () => (await host.client.list("rootfs")).length === 0);
    }
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("on purpose, with SIGTERM, is no death: mounts wait for the next server, and a daemon without mounts leaves no holder", async () => {
    const first = await host.start();
    const { lower } = await host.client.createRootfs({ id: "waits", image: archive });
    const ended = once(first, "exit");
    first.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    expect(host.holders()).toHaveLength(1);
    await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    const waiting = execFile("cat", [`${lower}/name`]);
    const output = once(waiting.stdout!, "data");
    const second = await host.start();
    expect(String((await output)[0])).toBe("image 0\n");
    await host.client.remove("waits");
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
    expect(second.pid).not.toBe(first.pid);
    const third = await host.start();
    const holders = host.holders();
    third.kill("SIGTERM");
    for (const holder of holders) expect(await processEnded(holder, 30_000)).toBe(true);
    await eventually("nothing runs", () => host.processes().length === 0);
  });

  async function isRunningContainer(id: string): Promise<boolean> {
    const { stdout } = await exec("runc", [
      "--root",
      path.join(host.skim.runDir, "runc"),
      "list",
      "-f",
      "json",
    ]).catch(() => ({ stdout: "[]" }));
    return ((JSON.parse(stdout) as { id: string; status: string }[] | null) ?? []).some(
      (container) => container.id === id && container.status === "running",
    );
  }
});

/** By another process: this one must not wait for a mount. */
async function writeFileOutside(file: string, content: string): Promise<void> {
  const child = execFile("sh", ["-c", 'cat > "$1"', "sh", file]);
  child.stdin!.end(content);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`cannot write ${file}`);
}
