import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { DaemonHost, eventually, pause } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);
const containers = 4;
const kills = Number(process.env.SKIM_TEST_KILLS ?? 50);
const upgrades = 8;
const killEveryMs = 200;

/**
 * Reads every file of the image with its sum, and starts new processes, over and over: a line for each round, until its standard input ends. Anything that fails ends it.
 */
const reading = `
exec 3<&0
cat <&3 >/dev/null & input=$!
round=0
while kill -0 $input 2>/dev/null; do
  sha256sum -c /sums >/tmp/out 2>&1 || { cat /tmp/out; exit 3; }
  for n in 1 2 3; do cat /name >/tmp/name || exit 4; test -s /tmp/name || exit 5; done
  round=$((round + 1))
  echo $round
  sleep 0.1
done
exit 0`;

/** The same programs in another place and of another version, with an addon and a holder of their own. Resolves to its command line. */
async function otherBuild(directory: string): Promise<string> {
  const root = path.resolve(import.meta.dirname, "../..");
  await mkdir(path.join(directory, "native/build"), { recursive: true });
  await cp(path.join(root, "dist"), path.join(directory, "dist"), { recursive: true });
  const release = "native/build/Release";
  await mkdir(path.join(directory, release));
  for (const name of ["skim.node", "skim-holder", "skim-files"])
    await cp(path.join(root, release, name), path.join(directory, release, name));
  await symlink(path.join(root, "node_modules"), path.join(directory, "node_modules"));
  const described = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  await writeFile(
    path.join(directory, "package.json"),
    JSON.stringify({ ...described, version: "0.1.1-other" }),
  );
  return path.join(directory, "dist/bin/skim.js");
}

describe("a server that dies under its mounts", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let archive: string;
  let running: {
    child: ChildProcess;
    rounds: () => number;
    output: () => string;
    ended: Promise<unknown[]>;
  }[];

  beforeAll(async () => {
    dir = await makeTempDir("killed");
    images = await startControlImages(dir, { files: 6, fileBytes: 250_000 });
    host = await DaemonHost.make();
    archive = path.join(dir, "image.skim");
    await host.skim.ok(["index", images.names[0]!, "-o", archive, "--span-size", "65536"]);
    await host.start();
  });

  afterAll(async () => {
    await host.shutdown(true);
    await images.registry.close();
    expect(await host.leftovers()).toEqual([]);
  });

  beforeEach(async () => {
    running = Array.from({ length: containers }, () => startReading());
    await eventually("all containers read", () => running.every(({ rounds }) => rounds() > 0));
  });

  afterEach(async () => {
    // Of a test that has failed.
    for (const { child, ended } of running) {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended;
    }
  });

  function startReading() {
    const child = host.skim.start(["run", archive, "--", "sh", "-c", reading]);
    let rounds = 0;
    const lines: string[] = [];
    createInterface({ input: child.stdout! }).on("line", (line) => {
      if (/^\d+$/.test(line)) rounds = Number(line);
      else lines.push(line);
    });
    child.stderr!.on("data", (bytes: Buffer) => lines.push(bytes.toString()));
    child.once("close", (code, signal) => {
      lines.push(`ended with ${signal ?? code}`);
    });
    return { child, rounds: () => rounds, output: () => lines.join("\n"), ended: once(child, "close") };
  }

  /** The kernel keeps what it has read; what is dropped is asked for again. */
  const dropCaches = () => exec("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);

  async function containersHaveSeenNothing(): Promise<void> {
    const before = running.map(({ rounds }) => rounds());
    await eventually("all containers have read once more", () =>
      running.every(({ rounds, output }, i) => output() !== "" || rounds() > before[i]! + 1),
    );
    for (const { output } of running) expect(output()).toBe("");
    for (const { child } of running) child.stdin!.end();
    for (const { ended } of running) expect(await ended).toEqual([0, null]);
    expect(await host.client.list("rootfs")).toEqual([]);
  }

  it(`by SIGKILL, ${kills} times, every ${killEveryMs} ms: containers read on, byte for byte`, async () => {
    const killed = new Set<number>();
    while (killed.size < kills) {
      if (killed.size % 5 === 0) await dropCaches();
      await pause(killEveryMs);
      const pid = (await host.health())?.pid;
      if (pid === undefined) continue;
      process.kill(pid, "SIGKILL");
      killed.add(pid);
    }
    await containersHaveSeenNothing();
    expect((await host.health())?.restarts).toBeGreaterThanOrEqual(kills);
    expect(host.servers()).toHaveLength(1);
    expect(host.holders()).toHaveLength(1);
  }, 180_000);

  it("while it is just coming up: the next one serves", async () => {
    for (let kill = 0; kill < 5; kill++) {
      const before = await host.pid();
      process.kill(before, "SIGKILL");
      const next = await eventually("another one is started", () =>
        host.servers().find(({ pid }) => pid !== before),
      );
      await pause(kill * 40);
      process.kill(next.pid, "SIGKILL");
    }
    await containersHaveSeenNothing();
  }, 120_000);

  it(`by an upgrade, ${upgrades} times, to another build and back: the one that is started takes over, and the one before ends`, async () => {
    const other = await otherBuild(await makeTempDir("build"));
    const versions = new Set<string>();
    for (let upgrade = 0; upgrade < upgrades; upgrade++) {
      const before = host.servers().map(({ pid }) => pid);
      const started = await host.start([], {}, upgrade % 2 === 0 ? other : undefined);
      versions.add((await host.client.health()).version);
      await dropCaches();
      await eventually("the server before has ended", () =>
        host.servers().every(({ pid }) => !before.includes(pid)),
      );
      expect((await host.client.health()).pid).toBe(started.pid);
    }
    expect(versions.size).toBe(2);
    await containersHaveSeenNothing();
    expect(host.servers()).toHaveLength(1);
    expect(host.holders()).toHaveLength(1);
  }, 120_000);

  it("while mounts are asked for all the time: each is there, and once", async () => {
    let isOver = false;
    const workers = Array.from({ length: 3 }, async (_, worker) => {
      const made: string[] = [];
      for (let turn = 0; !isOver || turn < 3; turn++) {
        const id = `m${worker}-${turn}`;
        const { merged } = await host.client.createRootfs({ id, image: archive });
        expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
        made.push(id);
        // Some stay.
        if (turn % 3 !== 0) await host.client.remove(made.pop()!);
      }
      return made;
    });
    for (let kill = 0; kill < 8; kill++) {
      await pause(killEveryMs);
      const before = await host.killServer();
      await host.nextServer(before);
    }
    isOver = true;
    const made = (await Promise.all(workers)).flat();
    const listed = (await host.client.list("rootfs")).map(({ id }) => id).filter((id) => id.startsWith("m"));
    expect(listed.sort()).toEqual(made.sort());
    await Promise.all(made.map((id) => host.client.remove(id)));
    await containersHaveSeenNothing();
    expect(await host.client.leftovers()).toEqual([]);
  }, 120_000);
});
