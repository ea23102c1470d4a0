/**
 * What every figure of the scenario `start` works with: one registry with all images, the network before it, and skim's caches as they are before a start.
 *
 * Places are made for one measurement each and stay until the run's end: what was deleted just before is passed over one by one when ext4 looks
 * for an inode for a new file.
 */
import { mkdtemp } from "node:fs/promises";
import path from "node:path";
import { UndoStack } from "../../src/base/undo-stack.js";
import { copyColdCache } from "../../src/bench/cold-cache.js";
import { type FirstLine, runToFirstLine } from "../../src/bench/first-line.js";
import { flagsIn, type SkimFlags, withoutFill, withoutPrefetch } from "../../src/bench/skim-flags.js";
import { Network } from "../network/network.js";
import { type NetworkProfile, networkProfile, networkProfiles, unshaped } from "../network/profiles.js";
import type { TrafficReport } from "../network/traffic.js";
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

  /** A new directory, everything before it written back. */
  async place(): Promise<string> {
    const directory = await mkdtemp(path.join(this.run.workDir, "place-"));
    await run("sync", [], { signal: this.signal });
    return directory;
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

  /** A cache directory in which the image is indexed and nothing else: what a host has before its first start. */
  async coldCache(image: StartImage, kind: "indexed" | "profiled" = "indexed"): Promise<string> {
    const template = kind === "indexed" ? await this.#index(image) : await this.#profile(image);
    const cacheDir = path.join(await this.place(), "cache");
    await copyColdCache(template, cacheDir);
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
      const place = await this.place();
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

  #index(image: StartImage): Promise<string> {
    return once(this.#indexed, image.name, async () => {
      const cacheDir = path.join(await this.place(), "indexed");
      await this.skim(["index", this.reference(image), "--cache-dir", cacheDir]);
      return cacheDir;
    });
  }

  #profile(image: StartImage): Promise<string> {
    return once(this.#profiled, image.name, async () => {
      const cacheDir = await this.coldCache(image);
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
