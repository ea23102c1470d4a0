import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findMount } from "../../src/fuse/mount-table.js";
import { DaemonHost, eventually } from "../support/daemon-host.js";
import { FakeRegistry } from "../support/fake-registry.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const readers = 12;

/** A registry that takes requests for blobs, and never says anything again. */
describe("a registry that hangs", () => {
  let host: DaemonHost;
  let hanging: FakeRegistry;
  let working: FakeRegistry;
  let archives: { hanging: string; working: string };

  beforeAll(async () => {
    const dir = await makeTempDir("hangs");
    host = await DaemonHost.make();
    [hanging, working] = [await FakeRegistry.start(), await FakeRegistry.start()];
    archives = { hanging: path.join(dir, "hanging.skim"), working: path.join(dir, "working.skim") };
    for (const [name, registry] of Object.entries({ hanging, working })) {
      const files = Array.from({ length: readers }, (_, i) => ({
        path: `files/${i}`,
        content: Buffer.alloc(200_000, `${name} ${i}`),
      }));
      registry.addImage({ tag: "v1", layer: buildTar(files) });
      const reference = `${new URL(registry.url).host}/image:v1`;
      await host.skim.ok(["index", reference, "-o", archives[name as "hanging"], "--span-size", "65536"]);
    }
    await host.skim.ok(["cache", "gc"]).catch(() => {});
    await exec("rm", ["-rf", path.join(host.skim.cacheDir, "layers")]);
    hanging.script.add({ on: "blob", fault: () => {}, times: Number.POSITIVE_INFINITY });
    await host.start();
  });

  afterAll(async () => {
    await host.end();
    await hanging.close();
    await working.close();
  });

  it("keeps no reader from being killed, no mount from being unmounted, and nobody else from reading", async () => {
    const stuck = await host.client.createRootfs({ id: "stuck", image: archives.hanging });
    const waiting = Array.from({ length: readers }, (_, i) =>
      spawn("cat", [`${stuck.merged}/files/${i}`], { stdio: "ignore" }),
    );
    await eventually("readers wait", () => hanging.seen.some(({ kind }) => kind === "blob"));

    // Others are mounted, read and undone meanwhile; every byte of theirs comes from their own registry.
    const other = await host.client.createRootfs({ id: "other", image: archives.working });
    const { stdout } = await exec("sh", ["-c", 'cat "$1"/files/* | wc -c', "sh", other.merged]);
    expect(Number(stdout)).toBe(readers * 200_000);
    expect(waiting.map(({ exitCode }) => exitCode)).toEqual(waiting.map(() => null));
    await host.client.remove("other");

    for (const reader of waiting.slice(1)) {
      const ended = once(reader, "exit");
      reader.kill("SIGKILL");
      expect((await ended)[1]).toBe("SIGKILL");
    }
    await expect(host.client.remove("stuck")).rejects.toMatchObject({ code: "IN_USE" });
    const [last] = waiting;
    const ended = once(last!, "exit");
    await host.client.remove("stuck", { force: true });
    expect(findMount(stuck.merged)).toBeUndefined();
    last!.kill("SIGKILL");
    await ended;
    await host.shutdown(true);
    expect(await host.leftovers()).toEqual([]);
  });
});
