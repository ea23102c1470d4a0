/** The scenario `engine`: what the FUSE engines cost beside the same tree on ext4. */
import type { Measured, Scenario } from "../support/scenario.js";
import type { Bench } from "./bench.js";
import { measureNumpy, measureRandom, measureSequential } from "./data-figures.js";
import { BenchImages } from "./images.js";
import { measureFirstStat, measureLargeWalk, measureMemory, measureWalk } from "./metadata-figures.js";

const engineFigures: Readonly<Record<string, (bench: Bench) => Promise<Measured>>> = {
  walk: measureWalk,
  "walk-large": measureLargeWalk,
  numpy: measureNumpy,
  sequential: measureSequential,
  random: measureRandom,
  "first-stat": measureFirstStat,
  memory: measureMemory,
};

const programs = ["fio", "umoci", "mmdebstrap", "mkfs.ext4", "tar", "dd"];

const method = `Method: systems take turns, one measurement at a time; medians of all rounds, with the lowest and the highest.
Every measurement has a mount of its own ("cold": the kernel has no name, inode or page of it) below an overlay with an empty upper. What is read is in
skim's cache directory, and its files in the page cache. ext4 is the same tree extracted on an ext4 in a file on a loop device, mounted anew each time
under the same overlay; its file is in the page cache too. Unless said otherwise a server process is up already, has mounted before, and has verified
each span that it reads.`;

export const engineScenario: Scenario = {
  figures: Object.keys(engineFigures),
  programs,
  method,
  open: async ({ workDir, rounds, signal, say }) => {
    const images = new BenchImages({ workDir, signal, say });
    return {
      measure: (name) => engineFigures[name]!({ images, workDir, rounds, signal }),
      close: async () => {},
    };
  },
};
