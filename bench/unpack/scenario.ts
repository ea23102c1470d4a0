/** The scenario `unpack`: a whole image as a directory, by skim and by skopeo with umoci, from the same registry. */
import { mkdir, mkdtemp, rm, statfs, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Figure, Row } from "../../src/bench/figure.js";
import { rowsByTurns } from "../../src/bench/rounds.js";
import { run } from "../support/processes.js";
import { cliFile } from "../support/registry-process.js";
import type { Measured, Scenario } from "../support/scenario.js";
import { UnpackImages } from "./unpack-images.js";

interface UnpackBench {
  readonly images: UnpackImages;
  readonly workDir: string;
  readonly rounds: number;
  readonly signal: AbortSignal;
}

const programs = ["skopeo", "umoci", "mmdebstrap", "mkfs.xfs", "mkfs.btrfs", "mkfs.ext4"];

const method = `Method: systems take turns, one measurement at a time; medians of all rounds, with the lowest and the highest. What is measured are commands
from their start to their end, node's own start included, on the filesystem of --work-dir; nothing is synced within a measurement, everything before it, and nothing is deleted
before the end. The
registry is skim's, in a process of its own on this machine, and the layers are in its page cache: no network is as fast, so this is the best case for all.`;

export const unpackScenario: Scenario = {
  figures: ["first", "shared-base", "again", "reflinks"],
  programs,
  method,
  open: async ({ workDir, rounds, signal }) => {
    const images = await UnpackImages.serve(workDir, signal);
    const bench: UnpackBench = { images, workDir, rounds, signal };
    const measures: Record<string, () => Promise<Measured>> = {
      first: () => measureFirst(bench),
      "shared-base": () => measureSharedBase(bench),
      again: () => measureAgain(bench),
      reflinks: () => measureReflinks(bench),
    };
    return { measure: (name) => measures[name]!(), close: () => images.close() };
  },
};

/**
 * Directories of one measurement: new ones each time, which stay until the run's end. What was deleted just before is passed over one by one when ext4
 * looks for an inode for a new file (recently_deleted), which would be most of what is measured.
 */
class Place {
  readonly dir: string;
  readonly #signal: AbortSignal;

  private constructor(dir: string, signal: AbortSignal) {
    this.dir = dir;
    this.#signal = signal;
  }

  static async make(parent: string, signal: AbortSignal): Promise<Place> {
    const place = new Place(await mkdtemp(path.join(parent, "place-")), signal);
    await place.sync();
    return place;
  }

  /** What is written back now is not written back during a measurement. */
  async sync(): Promise<void> {
    await run("sync", [], { signal: this.#signal });
  }

  /** Milliseconds of `skim unpack`. */
  async skim(image: string, tree: string, mode = "auto"): Promise<number> {
    const args = ["unpack", image, path.join(this.dir, tree), "--mode", mode, "--json"];
    const cacheDir = path.join(this.dir, "cache");
    const options = { signal: this.#signal, discard: true };
    return (await run(process.execPath, [cliFile, ...args, "--cache-dir", cacheDir], options)).milliseconds;
  }

  /** Milliseconds of `skopeo copy` into a layout, which keeps what it has, and `umoci unpack` from there. */
  async skopeoAndUmoci(image: string, tree: string): Promise<number> {
    const layout = path.join(this.dir, "layout");
    const options = { signal: this.#signal, discard: true };
    const copy = ["copy", "--quiet", "--src-tls-verify=false", `docker://${image}`, `oci:${layout}:${tree}`];
    const copied = await run("skopeo", copy, options);
    const unpack = ["unpack", "--image", `${layout}:${tree}`, path.join(this.dir, tree)];
    return copied.milliseconds + (await run("umoci", unpack, options)).milliseconds;
  }
}

const peers = "skopeo + umoci";

async function measureFirst({ images, workDir, rounds, signal }: UnpackBench): Promise<Measured> {
  const subject = (system: string, measure: (place: Place) => Promise<number>) => ({
    system,
    measure: async () => await measure(await Place.make(workDir, signal)),
  });
  const rows = await rowsByTurns(rounds, "ms", [
    subject("skim, copy", (place) => place.skim(images.debian, "tree", "copy")),
    subject("skim, extract", (place) => place.skim(images.debian, "tree", "extract")),
    subject(peers, (place) => place.skopeoAndUmoci(images.debian, "tree")),
  ]);
  const figure: Figure = {
    name: "first",
    title: "the Debian image from the registry, nothing of it here yet",
    rows,
    comparisons: [
      { row: "skim, copy", against: peers, inverse: true, target: { atLeast: 2 } },
      { row: "skim, extract", against: peers, inverse: true, target: { atLeast: 2 } },
    ],
  };
  return { figures: [figure] };
}

async function measureSharedBase({ images, workDir, rounds, signal }: UnpackBench): Promise<Measured> {
  const rows = await rowsByTurns(rounds, "ms", [
    {
      system: "skim",
      measure: async () => {
        const place = await Place.make(workDir, signal);
        await place.skim(images.debian, "base");
        await place.sync();
        return await place.skim(images.derived, "tree");
      },
    },
    {
      system: peers,
      measure: async () => {
        const place = await Place.make(workDir, signal);
        await place.skopeoAndUmoci(images.debian, "base");
        await place.sync();
        return await place.skopeoAndUmoci(images.derived, "tree");
      },
    },
  ]);
  const figure: Figure = {
    name: "shared-base",
    title: "an image with a layer of 2 MiB on the Debian one, which was unpacked before",
    rows,
    comparisons: [{ row: "skim", against: peers, inverse: true, target: { atLeast: 4 } }],
  };
  return { figures: [figure] };
}

async function measureAgain({ images, workDir, rounds, signal }: UnpackBench): Promise<Measured> {
  const place = await Place.make(workDir, signal);
  await place.skim(images.debian, "tree");
  const node = async () => (await run(process.execPath, ["-e", "0"], { signal })).milliseconds;
  const rows = await rowsByTurns(rounds, "ms", [
    { system: "skim", measure: () => place.skim(images.debian, "tree") },
    { system: "node -e 0", measure: node },
  ]);
  const figure: Figure = {
    name: "again",
    title: "the same image into the same directory: the registry is asked for the tag, nothing is touched",
    rows,
    comparisons: [{ row: "skim", against: "node -e 0" }],
  };
  return { figures: [figure] };
}

/** Time and disk that the second tree takes, on filesystems that share blocks and on one that does not. */
async function measureReflinks({ images, workDir, rounds, signal }: UnpackBench): Promise<Measured> {
  const types = ["ext4", "xfs", "btrfs"];
  const times: Row[] = [];
  const sizes: Row[] = [];
  for (const type of types) {
    const file = path.join(workDir, `${type}.image`);
    const mountpoint = path.join(workDir, type);
    await writeFile(file, "");
    await truncate(file, (1 + rounds) * 2 ** 30);
    await run(`mkfs.${type}`, ["-q", file], { signal });
    await mkdir(mountpoint);
    await run("mount", ["-o", "loop", file, mountpoint], { signal });
    try {
      const samples = { ms: [] as number[], MB: [] as number[] };
      for (let round = 0; round < rounds; round++) {
        const place = await Place.make(mountpoint, signal);
        await place.skim(images.debian, "base");
        const before = await usedBytes(mountpoint, signal);
        samples.ms.push(await place.skim(images.debian, "tree"));
        samples.MB.push(((await usedBytes(mountpoint, signal)) - before) / 1e6);
      }
      times.push({ system: type, unit: "ms", samples: samples.ms });
      sizes.push({ system: type, unit: "MB", samples: samples.MB });
    } finally {
      await run("umount", [mountpoint]);
      await rm(file);
    }
  }
  const against = (row: string) => ({ row, against: "ext4" });
  return {
    figures: [
      {
        name: "reflinks-time",
        title: "a second tree of the Debian image from the store, on a loop device",
        rows: times,
        comparisons: [against("xfs"), against("btrfs")],
      },
      {
        name: "reflinks-disk",
        title: "what that tree takes on disk, after sync",
        rows: sizes,
        comparisons: [against("xfs"), against("btrfs")],
      },
    ],
  };
}

async function usedBytes(mountpoint: string, signal: AbortSignal): Promise<number> {
  await run("sync", ["-f", mountpoint], { signal });
  const { bsize, blocks, bfree } = await statfs(mountpoint);
  return bsize * (blocks - bfree);
}
