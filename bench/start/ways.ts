/** The ways from "this image, please" to the first line of its program, on a host that has none of its bytes. */
import path from "node:path";
import type { FirstLine } from "../../src/bench/first-line.js";
import { withoutPrefetch, withPrefetch } from "../../src/bench/skim-flags.js";
import { DaemonProcess } from "../support/daemon-process.js";
import { run } from "../support/processes.js";
import { runUnderRunc } from "./runc-bundle.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";

export interface Way {
  readonly name: string;
  /** Whatever the host has before the start, which is not measured. What it returns is the start itself, once. */
  prepare(image: StartImage): Promise<PreparedStart>;
}

export interface PreparedStart {
  start(): Promise<FirstLine>;
  /** Ends what was there for it. */
  done?(): Promise<void>;
}

export const wayNames = {
  /** As skim is without options, no profile recorded. */
  skim: "skim",
  withoutPrefetch: "skim, no prefetch",
  profile: "skim, profile",
  daemon: "skim with a daemon, profile",
  unpack: "skim unpack, runc",
  peers: "skopeo, umoci, runc",
} as const;

/** Those that the skim at hand can go. */
export function waysOf(bench: StartBench): Way[] {
  const { flags } = bench;
  const skim = (name: string, args: string[], cache: "indexed" | "profiled" = "indexed"): Way => ({
    name,
    prepare: async (image) => {
      const cacheDir = await bench.coldCache(image, cache);
      return { start: () => bench.skimRun(image, { cacheDir, args }) };
    },
  });
  return [
    ...(flags.prefetch ? [skim(wayNames.withoutPrefetch, withoutPrefetch(flags))] : []),
    skim(wayNames.skim, withPrefetch(flags)),
    ...(flags.profile ? [skim(wayNames.profile, withPrefetch(flags), "profiled")] : []),
    ...(flags.profile && flags.daemon ? [withDaemon(bench)] : []),
    {
      name: wayNames.unpack,
      prepare: async (image) => {
        const place = await bench.place();
        const start = async () => {
          const { tree, milliseconds } = await skimUnpack(bench, image, place);
          return await thenRunc(bench, milliseconds, place, tree, image);
        };
        return { start };
      },
    },
    {
      name: wayNames.peers,
      prepare: async (image) => {
        const place = await bench.place();
        const start = async () => {
          const { tree, milliseconds } = await skopeoUmoci(bench, image, place);
          return await thenRunc(bench, milliseconds, place, tree, image);
        };
        return { start };
      },
    },
  ];
}

/** A host whose daemon runs, and has not mounted the image yet. */
function withDaemon(bench: StartBench): Way {
  return {
    name: wayNames.daemon,
    prepare: async (image) => {
      const cacheDir = await bench.coldCache(image, "profiled");
      const daemon = await DaemonProcess.start(cacheDir, bench.signal);
      const args = [...withPrefetch(bench.flags), ...daemon.options];
      return { start: () => bench.skimRun(image, { cacheDir, args }), done: () => daemon.close() };
    },
  };
}

interface Unpacked {
  readonly tree: string;
  readonly milliseconds: number;
}

/** `skim unpack` below the new directory `place`. */
export async function skimUnpack(bench: StartBench, image: StartImage, place: string): Promise<Unpacked> {
  const tree = path.join(place, "tree");
  const cache = ["--cache-dir", path.join(place, "cache")];
  const { milliseconds } = await bench.skim(["unpack", bench.reference(image), tree, ...cache]);
  return { tree, milliseconds };
}

/** `skopeo copy` into a layout and `umoci unpack` from there, below the new directory `place`. */
export async function skopeoUmoci(bench: StartBench, image: StartImage, place: string): Promise<Unpacked> {
  const { signal } = bench;
  const layout = path.join(place, "layout");
  const source = ["--src-tls-verify=false", `docker://${bench.reference(image)}`];
  const copied = await run("skopeo", ["copy", "--quiet", ...source, `oci:${layout}:image`], { signal });
  const bundle = path.join(place, "bundle");
  const unpacked = await run("umoci", ["unpack", "--image", `${layout}:image`, bundle], { signal });
  return { tree: path.join(bundle, "rootfs"), milliseconds: copied.milliseconds + unpacked.milliseconds };
}

async function thenRunc(
  bench: StartBench,
  milliseconds: number,
  place: string,
  tree: string,
  { command }: StartImage,
): Promise<FirstLine> {
  const ran = await runUnderRunc(path.join(place, "runc"), tree, command, bench.signal);
  return {
    ...ran,
    firstLineMs: milliseconds + ran.firstLineMs,
    totalMs: milliseconds + ran.totalMs,
  };
}
