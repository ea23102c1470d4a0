/** Figures of metadata: a walk, the time to the first stat, memory. */
import { mkdtemp, rmdir } from "node:fs/promises";
import path from "node:path";
import { type Figure, medianCounts } from "../../src/bench/figure.js";
import { rowsByTurns } from "../../src/bench/rounds.js";
import { run } from "../support/processes.js";
import type { Measured } from "../support/scenario.js";
import { type Bench, withServers } from "./bench.js";
import { BenchServer } from "./server.js";
import { ext4System, fuseSystem, onStage, type System } from "./systems.js";

const small = 1_000;
const large = 500_000;

/** `%s` makes find stat what it would otherwise only list. */
async function walk(root: string, signal: AbortSignal): Promise<number> {
  return (await run("find", [root, "-printf", "%s\n"], { signal, discard: true })).milliseconds;
}

export async function measureWalk({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const ext4 = await images.debianOnExt4();
  const counts = new Map<string, Record<string, number>[]>();
  const subject = (system: System) => ({
    system: system.name,
    measure: () =>
      onStage(system, workDir, async ({ merged, tree }) => {
        const ms = await walk(merged, signal);
        counts.set(system.name, [...(counts.get(system.name) ?? []), await tree.operations()]);
        return ms;
      }),
  });
  const xattrImage = await images.debianWithXattrs();
  const rows = await withServers(await images.debian(), ["native", "fuse-native"], ([native, fuseNative]) =>
    withServers(xattrImage, ["native"], ([xattrs]) =>
      rowsByTurns(rounds, "ms", [
        subject(ext4System(ext4.image, ext4.subdirectory)),
        subject(fuseSystem(native!)),
        subject(fuseSystem(xattrs!, "native, image with xattrs")),
        subject(fuseSystem(fuseNative!)),
      ]),
    ),
  );
  return {
    figures: [
      {
        name: "walk",
        title: "cold find -printf %s through overlayfs, 10,000 files",
        rows,
        comparisons: [
          { row: "native", against: "ext4", target: { atMost: 2 } },
          { row: "native", against: "fuse-native", inverse: true, target: { atLeast: 5 } },
          { row: "native, image with xattrs", against: "ext4", target: { atMost: 4 } },
        ],
      },
    ],
    counts: [
      {
        figure: "walk",
        title: "FUSE requests by operation",
        columns: [...counts]
          .filter(([system]) => system !== "ext4")
          .map(([system, samples]) => ({ system, counts: medianCounts(samples) })),
      },
    ],
  };
}

/** The synthetic tree: what grows with the number of files, and what does not. fuse-native is left out: it takes half a minute a walk. */
export async function measureLargeWalk({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const ext4 = await images.manyOnExt4(large);
  const rows = await withServers(await images.many(large), ["native"], ([native]) =>
    rowsByTurns(
      rounds,
      "ms",
      [ext4System(ext4.image, ext4.subdirectory), fuseSystem(native!)].map((system) => ({
        system: system.name,
        measure: () => onStage(system, workDir, ({ merged }) => walk(merged, signal)),
      })),
    ),
  );
  return {
    figures: [
      {
        name: "walk-large",
        title: `cold find -printf %s through overlayfs, ${large} files`,
        rows,
        comparisons: [{ row: "native", against: "ext4", target: { atMost: 2 } }],
      },
    ],
  };
}

/** One mount by a server that is up; from the request to mount until a stat from another process has come back. */
export async function measureFirstStat({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const figures: Figure[] = [];
  const trees = [
    { name: `${small} files`, image: await images.many(small) },
    { name: `${large} files`, image: await images.many(large) },
  ];
  const firstStat = async (server: BenchServer): Promise<number> => {
    const directory = await mkdtemp(path.join(workDir, "first-stat-"));
    const started = performance.now();
    const tree = await fuseSystem(server).mount(directory);
    try {
      await run("stat", [directory], { signal, discard: true });
      return performance.now() - started;
    } finally {
      await tree.close();
      await rmdir(directory);
    }
  };
  await withServers(trees[0]!.image, ["native"], ([first]) =>
    withServers(trees[1]!.image, ["native"], async ([second]) => {
      const rows = await rowsByTurns(rounds, "ms", [
        { system: trees[0]!.name, measure: () => firstStat(first!) },
        { system: trees[1]!.name, measure: () => firstStat(second!) },
      ]);
      figures.push({
        name: "first-stat",
        title: "mount to the first stat of another process; server process up, archive open",
        rows,
        comparisons: [
          { row: trees[1]!.name, against: trees[0]!.name, target: { atMost: 1.5 } },
          { row: trees[1]!.name, target: { below: 50 } },
        ],
      });
    }),
  );
  const opened = trees.flatMap(({ name, image }) => {
    const openAnd = (mount: boolean) => async () => {
      const server = new BenchServer("native");
      try {
        // The process is up, its modules are loaded, before the clock starts.
        await server.ask("fetches", {});
        const started = performance.now();
        const { archiveMs } = await server.ask("open", image);
        if (!mount) return archiveMs;
        const openMs = performance.now() - started;
        return openMs + (await firstStat(server));
      } finally {
        await server.end();
      }
    };
    return [
      { system: `${name}: archive opened and checked`, measure: openAnd(false) },
      { system: `${name}: opened, mounted, first stat`, measure: openAnd(true) },
    ];
  });
  figures.push({
    name: "open",
    title: "the same with opening the archive, in a process that has opened none before",
    rows: await rowsByTurns(rounds, "ms", opened),
    comparisons: [],
  });
  return { figures };
}

export async function measureMemory({ images, workDir, rounds, signal }: Bench): Promise<Measured> {
  const image = await images.many(large);
  const resident: number[] = [];
  const anonymous: number[] = [];
  for (let round = 0; round < rounds; round++)
    await withServers(image, ["native"], ([server]) =>
      onStage(fuseSystem(server!), workDir, async ({ merged }) => {
        await walk(merged, signal);
        resident.push(server!.residentMegabytes("VmRSS"));
        anonymous.push(server!.residentMegabytes("RssAnon"));
      }),
    );
  return {
    figures: [
      {
        name: "memory",
        title: `memory of the server after a walk of ${large} files`,
        rows: [
          { system: "resident", unit: "MB", samples: resident },
          { system: "of it not shared (RssAnon)", unit: "MB", samples: anonymous },
        ],
        comparisons: [{ row: "resident", target: { below: 200 } }],
      },
    ],
  };
}
