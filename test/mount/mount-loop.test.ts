import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { indexImage } from "../../src/mount/index-image.js";
import { mountImage, umountImage } from "../../src/mount/mount-image.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const loops = 200;

it(`mounts and unmounts ${loops} times: each mount answers at once, and nothing is left`, async () => {
  const dir = await makeTempDir("loop");
  const layout = path.join(dir, "image");
  const tar = buildTar([
    { path: "etc/", type: "directory" },
    { path: "etc/hello", content: "hello\n" },
  ]);
  await writeTestImage(layout, [{ tar }]);
  const host = await makeSkimHost();
  const settings = { cacheDir: host.cacheDir, runDir: host.runDir };
  const { archive } = await indexImage({ image: `oci:${layout}`, settings });
  const descriptorsBefore = (await readdir("/proc/self/fd")).length;

  for (let i = 0; i < loops; i += 2) {
    // Two at a time: mounting must not depend on being alone.
    await Promise.all(
      [i, i + 1].map(async () => {
        const directory = await makeTempDir("mnt");
        await mountImage({ image: archive, directory, settings });
        expect((await exec("cat", [path.join(directory, "etc/hello")])).stdout).toBe("hello\n");
        await umountImage(directory, { settings });
        expect(await readdir(directory)).toEqual([]);
        await removeTempDir(directory);
      }),
    );
  }
  expect(await host.leftovers()).toEqual([]);
  expect(await readdir(path.join(host.runDir, "logs"))).toEqual([]);
  expect(await skimServers(host.runDir)).toEqual([]);
  // A few of node's own may have come (a thread's wakeup, a DNS cache): not one a mount.
  expect((await readdir("/proc/self/fd")).length).toBeLessThan(descriptorsBefore + 10);
}, 600_000);

/** Pids of mount servers that serve below `runDir`. */
async function skimServers(runDir: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found: string[] = [];
  for (const pid of pids) {
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    if (command.includes("mount-server-main") && command.includes(runDir)) found.push(pid);
  }
  return found;
}
