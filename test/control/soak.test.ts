/** Everything at once for a while, in an order that a seed decides: SKIM_SOAK_SEED, and SKIM_SOAK_SECONDS for how long. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { isSkimError } from "../../src/base/errors.js";
import { Random } from "../fuzz/random.js";
import { DaemonHost, eventually } from "../support/daemon-host.js";
import { FakeRegistry } from "../support/fake-registry.js";
import { faults } from "../support/network-faults.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const seconds = Number(process.env.SKIM_SOAK_SECONDS ?? 20);
const seed = Number(process.env.SKIM_SOAK_SEED ?? Date.now() % 1_000_000);
const imageCount = 3;
const workers = 4;
const fileCount = 6;
const fileBytes = 200_000;
/** What V8 and malloc keep at one time and not at another: several times what a server of three images needs. A leak of one image's archive a mount would be more. */
const memoryBytesSlack = 64 * 1024 * 1024;
/** A server grows with its first mounts, until V8 has found its heap's size: measured, half of that in the first hundred. */
const warmRootfs = 150;

it(
  `mounts, runs, unmounts, evicts and dies for ${seconds} s (seed ${seed}), and has then what it had`,
  async () => {
    console.info(`soak: SKIM_SOAK_SEED=${seed} SKIM_SOAK_SECONDS=${seconds}`);
    const dir = await makeTempDir("soak");
    const host = await DaemonHost.make();
    const registry = await FakeRegistry.start();
    const busybox = await readFile("/bin/busybox");
    const archives: string[] = [];
    for (let image = 0; image < imageCount; image++) {
      const random = new Random(seed + image);
      const content = () => Buffer.from(Array.from({ length: fileBytes }, () => random.below(256)));
      const layer = buildTar([
        { path: "bin/", type: "directory" },
        { path: "bin/sh", content: busybox, mode: 0o755 },
        { path: "bin/cat", type: "hardlink", link: "bin/sh" },
        ...Array.from({ length: fileCount }, (_, i) => ({ path: `files/${i}`, content: content() })),
      ]);
      registry.addImage({ tag: `v${image}`, layer });
      const archive = path.join(dir, `${image}.skim`);
      const reference = `${new URL(registry.url).host}/image:v${image}`;
      await host.skim.ok(["index", reference, "-o", archive, "--span-size", "65536"]);
      archives.push(archive);
    }
    // One image fits into the cache, and not all of them.
    await host.start([], {
      SKIM_CACHE_BYTES_MAX: "2MiB",
      SKIM_IMAGE_IDLE_MS: "100",
      SKIM_MEMORY_CACHE_BYTES: "1048576",
    });
    registry.script.add({ on: "blob", fault: faults.reset(), first: 5, times: 3 });

    const counts = { rootfs: 0, runs: 0, reads: 0, kills: 0, refused: 0 };

    async function turn(random: Random, id: string): Promise<void> {
      const image = random.pick(archives);
      if (random.oneIn(5)) {
        const ran = await host.skim.run([
          "run",
          image,
          "--",
          "sh",
          "-c",
          "cat /files/* >/dev/null && exit 7",
        ]);
        expect(ran, ran.stderr).toMatchObject({ code: 7 });
        counts.runs++;
        return;
      }
      const { merged } = await host.client.createRootfs({ id, image, tmpfsUpper: random.oneIn(3) });
      counts.rootfs++;
      for (let read = random.below(3); read > 0; read--) {
        const { stdout } = await exec("sh", ["-c", 'cat "$1"/files/* | wc -c', "sh", merged]);
        expect(Number(stdout)).toBe(fileCount * fileBytes);
        counts.reads++;
      }
      await host.client.remove(id, { force: random.oneIn(2) });
    }

    /** For so long, and until so many rootfs have been there. */
    async function soak(
      phase: string,
      forMs: number,
      { kills, rootfsMin = 0 }: { readonly kills: boolean; readonly rootfsMin?: number },
    ): Promise<void> {
      const endsAt = performance.now() + forMs;
      const enough = counts.rootfs + rootfsMin;
      const isOver = () => performance.now() >= endsAt && counts.rootfs >= enough;
      const troublemaker = (async () => {
        const random = Random.ofStep(seed, `${phase} trouble`, 0);
        while (!isOver()) {
          await new Promise((resolve) => setTimeout(resolve, 300 + random.below(1500)));
          if (kills && (counts.kills === 0 || random.oneIn(3))) {
            const before = await host.killServer();
            await host.nextServer(before);
            counts.kills++;
          } else if (random.oneIn(2))
            registry.script.add({ on: "blob", fault: faults.reset(), times: 1 + random.below(3) });
          else await exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
        }
      })();
      await Promise.all([
        troublemaker,
        ...Array.from({ length: workers }, async (_, worker) => {
          for (let step = 0; !isOver(); step++)
            await turn(Random.ofStep(seed, `${phase} ${worker}`, step), `${phase}-${worker}-${step}`).catch(
              (error) => {
                if (!isSkimError(error, "BUSY")) throw error;
                counts.refused++;
              },
            );
        }),
      ]);
    }

    /** When nothing is mounted any more. */
    async function rest() {
      await eventually("no image is mounted", async () => (await host.client.list()).length === 0);
      expect(await host.client.leftovers()).toEqual([]);
      const pid = await host.pid();
      const [holder] = host.holders();
      return { pid, server: factsOf(pid), holder: factsOf(holder!.pid), processes: host.processes().length };
    }

    const forMs = (seconds * 1000) / 4;
    await soak("a", 2 * forMs, { kills: true });
    // Memory is that of one server, which has worked: one that has just been started has less.
    await soak("b", forMs, { kills: false, rootfsMin: warmRootfs });
    const middle = await rest();
    await soak("c", forMs, { kills: false, rootfsMin: warmRootfs });
    const end = await rest();
    expect(end.pid).toBe(middle.pid);
    expect(counts.kills).toBeGreaterThan(0);
    console.info("soak:", JSON.stringify({ counts, middle, end }));
    expect(end.processes).toBe(middle.processes);
    expect(end.holder.descriptors).toBe(middle.holder.descriptors);
    expect(end.holder.threads).toBe(middle.holder.threads);
    // Connections to the registry come and go.
    expect(end.server.descriptors).toBeLessThanOrEqual(middle.server.descriptors + 8);
    expect(end.server.fuseDescriptors).toBe(0);
    expect(end.holder.fuseDescriptors).toBe(0);
    expect(end.server.threads).toBeLessThanOrEqual(middle.server.threads + 16);
    expect(end.server.memoryBytes).toBeLessThan(middle.server.memoryBytes + memoryBytesSlack);
    expect(counts.rootfs).toBeGreaterThan(0);
    await host.shutdown();
    await registry.close();
    expect(await host.leftovers()).toEqual([]);
  },
  // Until the server is warm, and to its end: a minute, three where other tests and other guests have the processors.
  seconds * 1000 + 400_000,
);

function factsOf(pid: number) {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
  const descriptors = readdirSync(`/proc/${pid}/fd`);
  const fuse = descriptors.filter((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === "/dev/fuse");
  return {
    descriptors: descriptors.length,
    fuseDescriptors: fuse.length,
    threads: field("Threads"),
    memoryBytes: field("VmRSS") * 1024,
  };
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return "";
  }
}
