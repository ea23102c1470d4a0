/**
 * The second start on a host: everything the program reads is in skim's cache; beside the same tree on ext4. Once as a whole, from the command on, which for skim starts node
 * twice and makes the mount; and once from runc's start on, in a root filesystem that is mounted, which is what the filesystem itself costs.
 */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { Figure } from "../../src/bench/figure.js";
import type { FirstLine } from "../../src/bench/first-line.js";
import { withPrefetch } from "../../src/bench/skim-flags.js";
import { unshaped } from "../network/profiles.js";
import { DaemonProcess } from "../support/daemon-process.js";
import { Ext4Image } from "../support/ext4-image.js";
import { dropPages } from "../support/page-cache.js";
import { run } from "../support/processes.js";
import { runUnderRunc } from "./runc-bundle.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";

const names = {
  skimCold: "skim, files cold",
  ext4Cold: "ext4 + runc, files cold",
  skimWarm: "skim, files in memory",
  ext4Warm: "ext4 + runc, files in memory",
  ext4Mounted: "the same, mounted before",
  daemonWarm: "skim with a daemon, files in memory",
  daemonRootfsWarm: "runc in the daemon's rootfs, mounted before",
  rootfsCold: "runc in skim's rootfs, files cold",
  rootfsWarm: "runc in skim's rootfs, files in memory",
};

export async function measureSecondStart(bench: StartBench, image: StartImage): Promise<Figure> {
  const { signal, flags } = bench;
  const cacheDir = await bench.coldCache(image);
  // By digest: a tag would be resolved again, at the price of a round trip, which ext4 does not pay.
  const reference = await pinnedReference(bench, image);
  const skim = () => bench.skimRun(image, { cacheDir, args: withPrefetch(flags), reference });
  await bench.behind(unshaped, skim);
  // Twice: what is left over for the background to write is written, and what is read again is in memory.
  await bench.behind(unshaped, skim);

  const place = await bench.place();
  const ext4File = path.join(place, "tree.ext4");
  const ext4 = await ext4Of(bench, image, ext4File);
  const mountpoint = path.join(place, "mounted");
  await mkdir(mountpoint);
  let bundles = 0;
  const runc = () => runcIn(path.join(mountpoint, "tree"));
  const onExt4 = async (work: () => Promise<FirstLine>) => {
    await ext4.mount(mountpoint);
    try {
      return await work();
    } finally {
      await ext4.umount(mountpoint);
    }
  };
  const onSkim = async (
    work: (rootfs: string) => Promise<FirstLine>,
    own: readonly string[] = ["--cache-dir", cacheDir],
  ) => {
    const id = `bench-${process.pid}`;
    const { stdout } = await bench.skim(["rootfs", "mount", reference, "--id", id, ...own, "--json"]);
    const { merged } = JSON.parse(stdout) as { merged: string };
    try {
      return await work(merged);
    } finally {
      await bench.skim(["rootfs", "umount", id, ...own]);
    }
  };
  const runcIn = (rootfs: string) =>
    runUnderRunc(path.join(place, `runc${bundles++}`), rootfs, image.command, signal);
  const seconds = (start: () => Promise<FirstLine>) => async () => (await start()).firstLineMs / 1000;

  const daemon = flags.daemon ? await DaemonProcess.start(cacheDir, signal) : undefined;
  const withDaemon = () =>
    bench.skimRun(image, {
      cacheDir,
      args: [...withPrefetch(flags), ...(daemon?.options ?? [])],
      reference,
    });
  try {
    return await measured();
  } finally {
    await daemon?.close();
  }

  async function measured(): Promise<Figure> {
    const rows = await bench.rows("s", [
      {
        system: names.skimCold,
        measure: async () => {
          await dropPages(cacheDir, signal);
          return await seconds(skim)();
        },
      },
      {
        system: names.ext4Cold,
        measure: async () => {
          await dropPages(ext4File, signal);
          return await seconds(() => onExt4(runc))();
        },
      },
      {
        system: names.skimWarm,
        measure: async () => {
          await skim();
          return await seconds(skim)();
        },
      },
      {
        system: names.ext4Warm,
        measure: async () => {
          await onExt4(runc);
          return await seconds(() => onExt4(runc))();
        },
      },
      ...(daemon
        ? [
            {
              system: names.daemonWarm,
              measure: async () => {
                await withDaemon();
                return await seconds(withDaemon)();
              },
            },
            {
              system: names.daemonRootfsWarm,
              measure: async () => {
                const twice = async (rootfs: string) => {
                  await runcIn(rootfs);
                  return await runcIn(rootfs);
                };
                return await seconds(() => onSkim(twice, daemon.options))();
              },
            },
          ]
        : []),
      {
        system: names.rootfsCold,
        measure: async () => {
          await dropPages(cacheDir, signal);
          return await seconds(() => onSkim(runcIn))();
        },
      },
      {
        system: names.rootfsWarm,
        measure: async () => {
          await onSkim(runcIn);
          return await seconds(() => onSkim(runcIn))();
        },
      },
      {
        system: names.ext4Mounted,
        measure: seconds(() =>
          onExt4(async () => {
            await runc();
            return await runc();
          }),
        ),
      },
    ]);
    return {
      name: `second/${image.name}`,
      title: `a second start of ${image.title}, skim's by digest; each has a mount of its own`,
      rows,
      comparisons: [
        { row: names.skimCold, against: names.ext4Cold, target: { atMost: 1.1 } },
        { row: names.skimWarm, against: names.ext4Warm, target: { atMost: 1.1 } },
        { row: names.skimWarm, against: names.ext4Mounted },
        // Both have their mount from before.
        ...(daemon
          ? [names.daemonWarm, names.daemonRootfsWarm].map((row) => ({
              ...{ row, against: names.ext4Mounted, target: { atMost: 1.1 } },
            }))
          : []),
        { row: names.rootfsCold, against: names.ext4Cold, target: { atMost: 1.1 } },
        { row: names.rootfsWarm, against: names.ext4Warm, target: { atMost: 1.1 } },
      ],
    };
  }
}

async function pinnedReference(bench: StartBench, image: StartImage): Promise<string> {
  const cacheDir = await bench.coldCache(image);
  const { stdout } = await bench.skim(["index", bench.reference(image), "--cache-dir", cacheDir, "--json"]);
  const { manifestDigest } = JSON.parse(stdout) as { manifestDigest: string };
  return `${bench.reference(image).replace(/:[^:/]+$/, "")}@${manifestDigest}`;
}

async function ext4Of(bench: StartBench, image: StartImage, file: string): Promise<Ext4Image> {
  const { signal } = bench;
  const tree = await bench.unpacked(image);
  const used = await run("du", ["--summarize", "--block-size=1", tree], { signal });
  const bytes = Math.ceil(Number(used.stdout.split("\t")[0]) * 1.3) + 64 * 2 ** 20;
  const populate = (directory: string) => run("cp", ["-a", tree, path.join(directory, "tree")], { signal });
  return await Ext4Image.make(file, { bytes, inodes: 200_000 }, populate, signal);
}
