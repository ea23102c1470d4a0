/** The scenario `daemon`: what one more rootfs costs on a host whose daemon runs, in time and memory, and what its readers notice of a server that dies. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Figure } from "../../src/bench/figure.js";
import { quantile } from "../../src/bench/statistics.js";
import type { BenchRun, Measured, Scenario } from "../support/scenario.js";
import { bigFileName, DaemonHost, imageFiles } from "./daemon-host.js";

/** One after the other in each round. */
const mountsInRow = 100;
const mountsAtOnce = 100;
const imagesForMemory = 20;
const rootfsForMemory = 100;
const idleSeconds = 30;
/** V8 collects what the work before has left when nothing has been done for some seconds. */
const untilIdleMs = 15_000;
/** What is measured is a pause of the readers, not of the one who measures: the next kill comes when the server has been back for a while. */
const settleMs = 1_000;

const method = `Method: a daemon with an image of ${imageFiles.toLocaleString("en")} files, indexed, its FUSE mount made. Times are those of a client on the daemon's socket, from the request to the answer,
the overlay mounted. Memory is the server's private memory (smaps_rollup), before and after. A reader in another process reads past the page cache while the server is killed with SIGKILL;
the pause is its longest read. Processor time is that of server and holder together.`;

export const daemonScenario: Scenario = {
  figures: ["rootfs", "memory", "idle", "restart"],
  programs: ["pgrep"],
  method,
  open: async (bench) => {
    const host = await DaemonHost.start(bench.workDir, bench.signal);
    const measures: Record<string, () => Promise<Figure>> = {
      rootfs: () => measureRootfs(host, bench),
      memory: () => measureMemory(host, bench),
      idle: () => measureIdle(host, bench),
      restart: () => measureRestart(host, bench),
    };
    return {
      measure: async (name): Promise<Measured> => ({ figures: [await measures[name]!()] }),
      close: () => host.close(),
    };
  },
};

const rootfsRows = {
  p50: `mount, median of ${mountsInRow}`,
  p99: `mount, 99th of ${mountsInRow}`,
  atOnce: `${mountsAtOnce} at once, until the last`,
  umount: "unmount, median",
};

async function measureRootfs({ client, archive }: DaemonHost, { rounds, signal }: BenchRun): Promise<Figure> {
  const samples = {
    p50: [] as number[],
    p99: [] as number[],
    atOnce: [] as number[],
    umount: [] as number[],
  };
  await client.createRootfs({ id: "first", image: archive });
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    const mounts = await timesOf(mountsInRow, (which) =>
      client.createRootfs({ id: `row-${which}`, image: archive }),
    );
    samples.p50.push(quantile(mounts, 0.5));
    samples.p99.push(quantile(mounts, 0.99));
    const umounts = await timesOf(mountsInRow, (which) => client.remove(`row-${which}`));
    samples.umount.push(quantile(umounts, 0.5));
    const started = performance.now();
    const ids = Array.from({ length: mountsAtOnce }, (_, which) => `once-${which}`);
    await Promise.all(ids.map((id) => client.createRootfs({ id, image: archive })));
    samples.atOnce.push(performance.now() - started);
    await Promise.all(ids.map((id) => client.remove(id)));
  }
  await client.remove("first");
  const row = (name: keyof typeof samples) => ({
    system: rootfsRows[name],
    unit: "ms",
    samples: samples[name],
  });
  return {
    name: "rootfs",
    title: "skim rootfs mount on a running daemon, the image indexed and mounted",
    rows: [row("p50"), row("p99"), row("atOnce"), row("umount")],
    comparisons: [
      { row: rootfsRows.p50, target: { below: 15 } },
      { row: rootfsRows.p99, target: { below: 50 } },
    ],
  };
}

const memoryRows = {
  same: "one more rootfs of the same image",
  other: `another image of ${imageFiles} files`,
};

async function measureMemory(host: DaemonHost, { rounds, workDir, signal }: BenchRun): Promise<Figure> {
  const { client, archive } = host;
  const samples = { same: [] as number[], other: [] as number[] };
  const made: string[] = [];
  // The daemon's own: code, the HTTP server, the first image.
  await client.createRootfs({ id: "first", image: archive });
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    const before = await host.serverMemory();
    const same = Array.from({ length: rootfsForMemory }, (_, which) => `same-${round}-${which}`);
    for (const id of same) await client.createRootfs({ id, image: archive });
    const between = await host.serverMemory();
    samples.same.push((between - before) / rootfsForMemory);
    const others = Array.from({ length: imagesForMemory }, (_, which) => `other-${round}-${which}`);
    for (const id of others) {
      // A file of its own is an image of its own.
      const copy = path.join(workDir, `${id}.skim`);
      await copyFile(archive, copy);
      await client.createRootfs({ id, image: copy });
    }
    samples.other.push(((await host.serverMemory()) - between) / imagesForMemory);
    // They stay: memory that was freed would be had for nothing by the next round.
    made.push(...same, ...others);
  }
  for (const id of ["first", ...made]) await client.remove(id);
  return {
    name: "memory",
    title: "private memory of the server",
    rows: [
      { system: memoryRows.same, unit: "MB", samples: samples.same },
      { system: memoryRows.other, unit: "MB", samples: samples.other },
    ],
    comparisons: [
      { row: memoryRows.same, target: { below: 1 } },
      { row: memoryRows.other, target: { below: 5 } },
    ],
  };
}

async function measureIdle(host: DaemonHost, { rounds, signal }: BenchRun): Promise<Figure> {
  const { client, archive } = host;
  const rows = ["no image", "ten rootfs of one image"] as const;
  const samples: Record<(typeof rows)[number], number[]> = { "no image": [], "ten rootfs of one image": [] };
  const ids = Array.from({ length: 10 }, (_, which) => `idle-${which}`);
  for (const row of rows) {
    if (row !== "no image") for (const id of ids) await client.createRootfs({ id, image: archive });
    await new Promise((resolve) => setTimeout(resolve, untilIdleMs));
    for (let round = 0; round < rounds; round++) {
      const before = await host.processorSeconds();
      await new Promise((resolve) => setTimeout(resolve, idleSeconds * 1000));
      signal.throwIfAborted();
      samples[row].push((100 * ((await host.processorSeconds()) - before)) / idleSeconds);
    }
  }
  for (const id of ids) await client.remove(id);
  return {
    name: "idle",
    title: `processor time of server and holder, nothing being done, over ${idleSeconds} s (1 % is 10 ms a second)`,
    rows: rows.map((row) => ({ system: row, unit: "%", samples: samples[row] })),
    comparisons: [],
  };
}

async function measureRestart(host: DaemonHost, { rounds, signal }: BenchRun): Promise<Figure> {
  const { client, archive } = host;
  const { merged } = await client.createRootfs({ id: "read", image: archive });
  const reader = spawn(
    "node",
    [path.resolve(import.meta.dirname, "read-pause.js"), path.join(merged, bigFileName)],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const lines = createInterface({ input: reader.stdout });
  const longest = async () => {
    reader.stdin.write("\n");
    const [line] = (await once(lines, "line", { signal })) as [string];
    return (JSON.parse(line) as { ms: number }).ms;
  };
  const settle = () => new Promise((resolve) => setTimeout(resolve, settleMs));
  const samples: number[] = [];
  try {
    await settle();
    for (let kill = 0; kill < 4 * rounds; kill++) {
      signal.throwIfAborted();
      await longest();
      process.kill(await host.daemon.serverPid(), "SIGKILL");
      await settle();
      samples.push(await longest());
    }
  } finally {
    const ended = once(reader, "exit");
    reader.stdin.end();
    await ended;
    await client.remove("read");
  }
  const system = "SIGKILL to the server";
  return {
    name: "restart",
    title: "pause of a reader while the server is started again",
    rows: [{ system, unit: "ms", samples }],
    comparisons: [{ row: system, target: { below: 300 } }],
  };
}

/** Milliseconds of each, one after the other. */
async function timesOf(count: number, work: (which: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let which = 0; which < count; which++) {
    const started = performance.now();
    await work(which);
    times.push(performance.now() - started);
  }
  return times;
}
