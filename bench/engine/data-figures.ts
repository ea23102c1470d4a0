/** Figures of file bytes that are in skim's cache: a program's start, a sequential read, random reads. */
import path from "node:path";
import { medianCounts, type Row } from "../../src/bench/figure.js";
import { rowsByTurns } from "../../src/bench/rounds.js";
import { run } from "../support/processes.js";
import type { Measured } from "../support/scenario.js";
import { type Bench, withServers } from "./bench.js";
import { bigFileBytes, bigFileName } from "./images.js";
import { BenchServer } from "./server.js";
import { ext4System, fuseSystem, onStage, type System } from "./systems.js";

async function importNumpy(merged: string, signal: AbortSignal): Promise<number> {
  // No bytecode is written: the second time would run another program than the first.
  const env = { PATH: "/usr/bin:/bin:/usr/sbin", PYTHONDONTWRITEBYTECODE: "1", HOME: "/root" };
  const command = [merged, "/usr/bin/python3", "-c", "import numpy; numpy.arange(3).sum()"];
  return (await run("/usr/sbin/chroot", command, { signal, env, discard: true })).milliseconds;
}

export async function measureNumpy({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const ext4 = await images.debianOnExt4();
  const image = await images.debian();
  const second = new Map<string, number[]>();
  const counts = new Map<string, Record<string, number>[]>();
  const measure = (system: System) =>
    onStage(system, workDir, async ({ merged, tree }) => {
      const first = await importNumpy(merged, signal);
      counts.set(system.name, [...(counts.get(system.name) ?? []), await tree.operations()]);
      second.set(system.name, [...(second.get(system.name) ?? []), await importNumpy(merged, signal)]);
      return first;
    });
  const newServer = async () => {
    const server = new BenchServer("native");
    try {
      await server.ask("open", image);
      return await measure(fuseSystem(server, "native, new server"));
    } finally {
      await server.end();
    }
  };
  const rows = await withServers(image, ["native", "fuse-native"], async ([native, fuseNative]) => {
    const systems = [ext4System(ext4.image, ext4.subdirectory), fuseSystem(native!), fuseSystem(fuseNative!)];
    // One start that does not count: afterwards each server has verified the spans that a start reads.
    for (const system of systems) await measure(system);
    second.clear();
    counts.clear();
    const subjects = systems.map((system) => ({ system: system.name, measure: () => measure(system) }));
    return await rowsByTurns(rounds, "ms", [
      ...subjects.slice(0, 2),
      { system: "native, new server", measure: newServer },
      ...subjects.slice(2),
    ]);
  });
  const again: Row[] = [...second].map(([system, samples]) => ({ system, unit: "ms", samples }));
  return {
    figures: [
      {
        name: "numpy",
        title: "cold python3 -c 'import numpy' through overlayfs, data in the cache",
        rows,
        comparisons: [
          { row: "native", against: "ext4", target: { atMost: 1.5 } },
          { row: "native, new server", against: "ext4", target: { atMost: 1.5 } },
          { row: "fuse-native", against: "ext4" },
        ],
      },
      {
        name: "numpy-again",
        title: "the same a second time on the same mount",
        rows: again,
        comparisons: [{ row: "native", against: "ext4", target: { atMost: 1.05 } }],
      },
    ],
    counts: [
      {
        figure: "numpy",
        title: "FUSE requests by operation",
        columns: [...counts]
          .filter(([system]) => system !== "ext4")
          .map(([system, samples]) => ({ system, counts: medianCounts(samples) })),
      },
    ],
  };
}

export async function measureSequential({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const ext4 = await images.bigOnExt4();
  const gigabytesPerSecond = (system: System) =>
    onStage(system, workDir, async ({ merged }) => {
      const args = [`if=${path.join(merged, bigFileName)}`, "of=/dev/null", "bs=1M", "status=none"];
      const { milliseconds } = await run("dd", args, { signal });
      return bigFileBytes / 1e6 / milliseconds;
    });
  const rows = await withServers(await images.big(), ["native", "fuse-native"], async (servers) => {
    const systems = [
      ext4System(ext4.image, ext4.subdirectory),
      ...servers.map((server) => fuseSystem(server)),
    ];
    for (const system of systems) await gigabytesPerSecond(system);
    return await rowsByTurns(
      rounds,
      "GB/s",
      systems.map((system) => ({ system: system.name, measure: () => gigabytesPerSecond(system) })),
    );
  });
  return {
    figures: [
      {
        name: "sequential",
        title: "dd of a 512 MiB file through overlayfs, page cache of the mount cold",
        rows,
        comparisons: [
          { row: "native", against: "fuse-native", target: { atLeast: 2 } },
          { row: "native", against: "ext4" },
        ],
      },
    ],
  };
}

interface FioJob {
  readonly read: {
    readonly iops: number;
    readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> };
  };
}

export async function measureRandom({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const ext4 = await images.bigOnExt4();
  const p99 = new Map<string, number[]>();
  const iops = (system: System) =>
    onStage(system, workDir, async ({ merged }) => {
      const { stdout } = await run(
        "fio",
        [
          "--name=random",
          `--filename=${path.join(merged, bigFileName)}`,
          "--readonly",
          "--rw=randread",
          "--bs=4k",
          "--ioengine=psync",
          "--numjobs=8",
          "--group_reporting",
          // Each reads so much of the file, no block twice.
          "--io_size=16m",
          // Not fio's affair: it would drop the page cache of the file below too.
          "--invalidate=0",
          "--output-format=json",
        ],
        { signal },
      );
      const { jobs } = JSON.parse(stdout) as { jobs: FioJob[] };
      const { read } = jobs[0]!;
      p99.set(system.name, [...(p99.get(system.name) ?? []), read.clat_ns.percentile["99.000000"]! / 1000]);
      return read.iops;
    });
  const rows = await withServers(await images.big(), ["native", "fuse-native"], async (servers) => {
    const systems = [
      ext4System(ext4.image, ext4.subdirectory),
      ...servers.map((server) => fuseSystem(server)),
    ];
    for (const system of systems) await iops(system);
    p99.clear();
    return await rowsByTurns(
      rounds,
      "IOPS",
      systems.map((system) => ({ system: system.name, measure: () => iops(system) })),
    );
  });
  const comparisons = [
    { row: "native", against: "ext4" },
    { row: "native", against: "fuse-native" },
  ];
  return {
    figures: [
      { name: "random", title: "4 KiB random reads, 8 readers, cached", rows, comparisons },
      {
        name: "random-p99",
        title: "the same: latency of the slowest hundredth",
        rows: [...p99].map(([system, samples]) => ({ system, unit: "us", samples })),
        comparisons,
      },
    ],
  };
}
