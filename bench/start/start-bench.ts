/**
 * What every figure of the scenario `start` works with: one registry with all images, the network before it, and skim's caches as they are before a start.
 *
 * Places are made for one measurement each, and their files are emptied after it, but stay until the run's end: what was deleted just before is passed over one by one
 * when ext4 looks for an inode for a new file.
 */
import { mkdtemp } from "node:fs/promises";
import path from "node:path";
import { UndoStack } from "../../src/base/undo-stack.js";
import { copyColdCache, copyProfiledCache } from "../../src/bench/cold-cache.js";
import type { Row } from "../../src/bench/figure.js";
import { type FirstLine, runToFirstLine } from "../../src/bench/first-line.js";
import { type Subject, samplesByTurns } from "../../src/bench/rounds.js";
import { flagsIn, type SkimFlags, withoutFill, withoutPrefetch } from "../../src/bench/skim-flags.js";
import { Network } from "../network/network.js";
import { type NetworkProfile, networkProfile, networkProfiles, unshaped } from "../network/profiles.js";
import type { TrafficReport } from "../network/traffic.js";
import { warmUpNetwork } from "../network/warm-up.js";
import { run } from "../support/processes.js";
import { cliFile, RegistryProcess } from "../support/registry-process.js";
import type { BenchRun } from "../support/scenario.js";
import { makeStartImages, type StartImage, startImage, startImages } from "./start-images.js";

export interface SkimRunOptions {
  readonly cacheDir: string;
  readonly args?: readonly string[];
  /** Instead of the image's tag. */
  readonly reference?: string;
}

export class StartBench {
  readonly run: BenchRun;
  readonly images: readonly StartImage[];
  readonly networks: readonly NetworkProfile[];
  readonly flags: SkimFlags;
  readonly #network: Network;
  readonly #undo: UndoStack;
  readonly #indexed = new Map<string, Promise<string>>();
  readonly #profiled = new Map<string, Promise<string>>();
  readonly #unpacked = new Map<string, Promise<string>>();
  readonly #needed = new Map<string, Promise<number>>();
  readonly #places: string[] = [];

  static async open(run: BenchRun): Promise<StartBench> {
    const images = run.images?.map(startImage) ?? startImages;
    const networks = run.networks?.map(networkProfile) ?? networkProfiles;
    const flags = await readFlags(run.signal);
    await makeStartImages(run.imageDir, images, run.signal, run.say);
    const undo = new UndoStack();
    return await undo.guard(async () => {
      const registry = await RegistryProcess.serve(run.imageDir);
      undo.defer(() => registry.close());
      const network = await Network.start(registry.host);
      undo.defer(() => network.close());
      await warmUpNetwork(network, networks[0]!, ["bench", images[0]!.name]);
      return new StartBench(run, images, networks, flags, network, undo);
    });
  }

  private constructor(
    run: BenchRun,
    images: readonly StartImage[],
    networks: readonly NetworkProfile[],
    flags: SkimFlags,
    network: Network,
    undo: UndoStack,
  ) {
    this.run = run;
    this.images = images;
    this.networks = networks;
    this.flags = flags;
    this.#network = network;
    this.#undo = undo;
  }

  /** Arguments of node that make it skim. */
  readonly cli: readonly string[] = [cliFile];

  get signal(): AbortSignal {
    return this.run.signal;
  }

  async close(): Promise<void> {
    await this.#undo.unwind();
  }

  /** As skim takes it; with `docker://` before it as skopeo does. Behind the network. */
  reference(image: StartImage): string {
    return `${this.#network.host}/bench:${image.name}`;
  }

  layout(image: StartImage): string {
    return `oci:${this.run.imageDir}:${image.name}`;
  }

  /** A new directory, everything before it written back. One that is made within `emptied` is emptied behind it. */
  async place(): Promise<string> {
    const directory = await this.#kept();
    this.#places.push(directory);
    await run("sync", [], { signal: this.signal });
    return directory;
  }

  /** Does `work`, and takes the bytes away from all files in places that it made. Templates that are made on the way stay. */
  async emptied<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#places.length;
    try {
      return await work();
    } finally {
      const empty = ["-xdev", "-type", "f", "-size", "+0", "-exec", "truncate", "--size=0", "{}", "+"];
      for (const place of this.#places.splice(before)) await run("find", [place, ...empty]);
    }
  }

  /** Samples by turns; the places of each measurement are emptied before the next. */
  async samples<T>(subjects: readonly Subject<T>[]): Promise<T[][]> {
    const emptying = subjects.map(({ system, measure }) => ({
      system,
      measure: () => this.emptied(measure),
    }));
    return await samplesByTurns(this.run.rounds, emptying);
  }

  async rows(unit: string, subjects: readonly Subject[]): Promise<Row[]> {
    const samples = await this.samples(subjects);
    return subjects.map(({ system }, i) => ({ system, unit, samples: samples[i]! }));
  }

  /** Does `work` behind a network, and counts what passed. */
  async behind<T>(
    network: NetworkProfile,
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly traffic: TrafficReport }> {
    await this.#network.reset(network);
    try {
      const result = await work();
      return { result, traffic: (await this.#network.report()).traffic };
    } finally {
      await this.#network.reset(unshaped);
    }
  }

  /** `skim COMMAND`, to its end. */
  async skim(args: readonly string[]): Promise<{ readonly stdout: string; readonly milliseconds: number }> {
    return await run(process.execPath, [...this.cli, ...args], { signal: this.signal });
  }

  async skimRun(image: StartImage, options: SkimRunOptions): Promise<FirstLine> {
    const { cacheDir, args = [], reference = this.reference(image) } = options;
    const own = ["--cache-dir", cacheDir, "--no-tty", ...withoutFill(this.flags), ...args];
    return await runToFirstLine(
      process.execPath,
      [...this.cli, "run", reference, ...own, "--", ...image.command],
      { signal: this.signal },
    );
  }

  /** A cache directory with the image's archive and nothing else, as a host has it before its first start; with a start profile of its command if it is `profiled`. */
  async coldCache(image: StartImage, kind: "indexed" | "profiled" = "indexed"): Promise<string> {
    const cacheDir = path.join(await this.place(), "cache");
    if (kind === "indexed") await copyColdCache(await this.#index(image), cacheDir);
    else await copyProfiledCache(await this.#profile(image), cacheDir, this.reference(image));
    return cacheDir;
  }

  /** Compressed bytes of the spans that the image's command reads: what a start without any prefetching fetches. */
  neededBytes(image: StartImage): Promise<number> {
    return once(this.#needed, image.name, async () => {
      const cacheDir = await this.coldCache(image);
      const args = withoutPrefetch(this.flags);
      const { traffic } = await this.behind(unshaped, () => this.skimRun(image, { cacheDir, args }));
      return traffic.bytesDown;
    });
  }

  /** The image as a directory on the filesystem of --work-dir; made once. */
  unpacked(image: StartImage): Promise<string> {
    return once(this.#unpacked, image.name, async () => {
      const place = await this.#kept();
      const tree = path.join(place, "tree");
      await this.skim([
        "unpack",
        this.layout(image),
        tree,
        "--mode",
        "extract",
        "--cache-dir",
        path.join(place, "cache"),
      ]);
      return tree;
    });
  }

  /** A new directory for what is used again. */
  async #kept(): Promise<string> {
    return await mkdtemp(path.join(this.run.workDir, "place-"));
  }

  #index(image: StartImage): Promise<string> {
    return once(this.#indexed, image.name, async () => {
      const cacheDir = path.join(await this.#kept(), "indexed");
      await this.skim(["index", this.reference(image), "--cache-dir", cacheDir]);
      return cacheDir;
    });
  }

  #profile(image: StartImage): Promise<string> {
    return once(this.#profiled, image.name, async () => {
      const cacheDir = await this.#kept();
      await copyColdCache(await this.#index(image), cacheDir);
      const record = ["profile", "record", this.reference(image), "--cache-dir", cacheDir];
      await this.skim([...record, "--", ...image.command]);
      return cacheDir;
    });
  }
}

function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const before = made.get(key) ?? make();
  made.set(key, before);
  return before;
}

async function readFlags(signal: AbortSignal): Promise<SkimFlags> {
  const help = async (...args: string[]) =>
    (await run(process.execPath, [cliFile, ...args, "--help"], { signal })).stdout;
  return flagsIn(await help("run"), await help());
}
