/**
 * Starts of one image on this host, by lazy mount and by full extraction, from wherever the image is: what `skim bench` measures. Every start is a `skim` of
 * its own, as a user would type it, with a cache directory of its own; the user's is neither read nor written.
 */
import { mkdtemp, readFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { openImageOrArchive } from "../mount/image-or-archive.js";
import { copyColdCache, copyProfiledCache } from "./cold-cache.js";
import type { Figure } from "./figure.js";
import { type FirstLine, type FirstLineOptions, runToFirstLine } from "./first-line.js";
import type { Bar, Plot } from "./plot.js";
import { samplesByTurns } from "./rounds.js";
import { type SkimFlags, withoutFill, withPrefetch } from "./skim-flags.js";
import { median } from "./statistics.js";
import { runUnpacked } from "./unpacked-start.js";

export interface ImageStartsOptions {
  /** Name of an image, as on the command line. */
  readonly image: string;
  /** Instead of the image's command; empty: the image's. */
  readonly command: readonly string[];
  readonly rounds: number;
  /** Program and arguments that are skim. */
  readonly skim: readonly [program: string, ...args: string[]];
  readonly flags: SkimFlags;
  /** Options for every skim that names the image: --platform, --insecure-registry. */
  readonly imageOptions: readonly string[];
  /** An empty directory on a disk with room for `rounds` times the unpacked image; its owner removes it. */
  readonly workDir: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface ImageStarts {
  /** What the command printed first. */
  readonly line: string;
  readonly indexMs: number;
  /** Of all layers, compressed. */
  readonly imageBytes: number;
  readonly figures: readonly Figure[];
  readonly plots: readonly Plot[];
}

const names = {
  cold: "skim, cold",
  profile: "skim, cold, profile",
  warm: "skim, second start",
  unpack: "skim unpack, runc",
} as const;

/** One start, with the compressed bytes that came for it. */
interface Start {
  readonly firstLineMs: number;
  readonly fetchedBytes: number;
  readonly line: string;
}

/** Throws RUNTIME_FAILED with what the first skim that failed has said, or where the command prints no line. */
export async function measureImageStarts(options: ImageStartsOptions): Promise<ImageStarts> {
  const { image, rounds, flags, workDir, say } = options;
  const skim = new SkimProcesses(options);
  const template = path.join(workDir, "indexed");
  say("indexing");
  const indexed = await skim.run(["index", image, "--cache-dir", template, "--json"]);
  const { compressedBytes: imageBytes } = JSON.parse(indexed.stdout) as { compressedBytes: number };

  let profiled: string | undefined;
  if (flags.profile) {
    say("recording a start profile");
    profiled = await skim.newDirectory();
    await copyColdCache(template, profiled);
    await skim.run(["profile", "record", image, "--cache-dir", profiled, "--", ...options.command]);
  }

  // The second start is one in the cache that the cold start of the same round has filled.
  let filled = template;
  const subjects = [
    {
      system: names.cold,
      measure: async () => {
        filled = await skim.newDirectory();
        await copyColdCache(template, filled);
        return await skim.start(filled);
      },
    },
    ...(profiled === undefined
      ? []
      : [
          {
            system: names.profile,
            measure: async () => {
              const cacheDir = await skim.newDirectory();
              await copyProfiledCache(profiled, cacheDir, image);
              return await skim.start(cacheDir);
            },
          },
        ]),
    { system: names.warm, measure: async () => await skim.start(filled) },
    { system: names.unpack, measure: async () => await skim.unpackAndStart(template) },
  ];
  say(`${rounds} rounds of ${subjects.map(({ system }) => system).join("; ")}`);
  const samples = await samplesByTurns(rounds, subjects);
  const starts = subjects.map(({ system }, at) => ({ system, samples: samples[at]! }));
  return {
    line: samples[0]![0]!.line,
    indexMs: Math.round(indexed.totalMs),
    imageBytes,
    figures: figuresOf(starts),
    plots: plotsOf(figuresOf(starts), imageBytes),
  };
}

/** The skims of one measurement. */
class SkimProcesses {
  readonly #options: ImageStartsOptions;

  constructor(options: ImageStartsOptions) {
    this.#options = options;
  }

  async newDirectory(): Promise<string> {
    return await mkdtemp(path.join(this.#options.workDir, "start-"));
  }

  /** A skim that names the image, to its end; it prints something. */
  async run(args: readonly string[]): Promise<FirstLine> {
    const { skim, imageOptions } = this.#options;
    const [program, ...own] = skim;
    const end = args.indexOf("--");
    const options = end < 0 ? args : args.slice(0, end);
    const command = end < 0 ? [] : args.slice(end);
    return await runToFirstLine(program, [...own, ...options, ...imageOptions, ...command], this.#ending);
  }

  async start(cacheDir: string): Promise<Start> {
    const { image, command, flags } = this.#options;
    const statsFile = path.join(cacheDir, "bench-stats.json");
    const own = ["--cache-dir", cacheDir, "--no-tty", "--stats", statsFile];
    const how = [...withPrefetch(flags), ...withoutFill(flags)];
    const { firstLineMs, line } = await this.run(["run", image, ...own, ...how, "--", ...command]);
    const ran = JSON.parse(await readFile(statsFile, "utf8")) as { stats?: { registry: { bytes: number } } };
    return { firstLineMs, line, fetchedBytes: ran.stats?.registry.bytes ?? 0 };
  }

  /** `skim unpack`, then the command in the tree, with the config that `skim run` gives it. */
  async unpackAndStart(indexed: string): Promise<Start> {
    const { image, command } = this.#options;
    const place = await this.newDirectory();
    const tree = path.join(place, "tree");
    const unpacked = await this.run([
      "unpack",
      image,
      tree,
      "--cache-dir",
      path.join(place, "cache"),
      "--json",
    ]);
    const { fetchedBytes } = JSON.parse(unpacked.stdout) as { fetchedBytes: number };
    const { archive } = await openImageOrArchive(image, { settings: { cacheDir: indexed } });
    try {
      const ran = await runUnpacked({ archive, tree, place, command }, this.#ending);
      return { firstLineMs: unpacked.totalMs + ran.firstLineMs, line: ran.line, fetchedBytes };
    } finally {
      await archive.close();
    }
  }

  get #ending(): FirstLineOptions {
    return { signal: this.#options.signal };
  }
}

type SystemStarts = readonly { readonly system: string; readonly samples: readonly Start[] }[];

function figuresOf(starts: SystemStarts): Figure[] {
  const measured = starts.map(({ system }) => system);
  const rows = (unit: string, of: (start: Start) => number) =>
    starts.map(({ system, samples }) => ({ system, unit, samples: samples.map(of) }));
  return [
    {
      name: "start",
      title: "from the command to the first line",
      rows: rows("s", ({ firstLineMs }) => firstLineMs / 1000),
      comparisons: measured
        .filter((row) => row !== names.unpack)
        .map((row) => ({ row, against: names.unpack, inverse: true })),
    },
    {
      name: "bytes",
      title: "compressed bytes that came for it",
      rows: rows("MB", ({ fetchedBytes }) => fetchedBytes / 1e6),
      comparisons: [],
    },
  ];
}

function plotsOf(figures: readonly Figure[], imageBytes: number): Plot[] {
  const whole: Bar = { name: "the whole image", value: imageBytes / 1e6 };
  return figures.map(({ name, title, rows }) => ({
    kind: "bars",
    title,
    unit: rows[0]?.unit ?? "",
    groups: [
      {
        name: "",
        bars: [
          ...rows.map(({ system, samples }) => ({
            name: system,
            value: median(samples),
            low: Math.min(...samples),
            high: Math.max(...samples),
          })),
          ...(name === "bytes" ? [whole] : []),
        ],
      },
    ],
  }));
}

/** Throws USAGE for a number of rounds that is none. */
export function parseRounds(text: string): number {
  const rounds = Number(text);
  if (Number.isInteger(rounds) && rounds >= 1 && rounds <= 1000) return rounds;
  throw new SkimError("USAGE", `--rounds ${text}: a whole number from 1 to 1000 is needed`);
}
