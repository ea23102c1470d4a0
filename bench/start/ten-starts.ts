/** Ten containers of one image at once, on a host that has none of it. */
import path from "node:path";
import type { Figure } from "../../src/bench/figure.js";
import { withPrefetch } from "../../src/bench/skim-flags.js";
import type { NetworkProfile } from "../network/profiles.js";
import { DaemonProcess } from "../support/daemon-process.js";
import { runUnderRunc } from "./runc-bundle.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";
import { skimUnpack, skopeoUmoci, wayNames } from "./ways.js";

const containers = 10;

export async function measureTenStarts(
  bench: StartBench,
  image: StartImage,
  network: NetworkProfile,
): Promise<Figure> {
  const { flags, signal } = bench;
  const times = <T>(start: (which: number) => Promise<T>) =>
    Promise.all(Array.from({ length: containers }, (_, which) => start(which)));
  const last = (lines: readonly { readonly firstLineMs: number }[]) =>
    Math.max(...lines.map(({ firstLineMs }) => firstLineMs)) / 1000;

  const skim = (system: string, cache: "indexed" | "profiled") => ({
    system,
    measure: async () => {
      const cacheDir = await bench.coldCache(image, cache);
      const start = () => bench.skimRun(image, { cacheDir, args: withPrefetch(flags) });
      return last((await bench.behind(network, () => times(start))).result);
    },
  });
  const withDaemon = {
    system: wayNames.daemon,
    measure: async () => {
      const cacheDir = await bench.coldCache(image, "profiled");
      const daemon = await DaemonProcess.start(cacheDir, signal);
      try {
        const args = [...withPrefetch(flags), ...daemon.options];
        const start = () => bench.skimRun(image, { cacheDir, args });
        return last((await bench.behind(network, () => times(start))).result);
      } finally {
        await daemon.close();
      }
    },
  };
  const unpacking = (system: string, unpack: typeof skimUnpack) => ({
    system,
    measure: async () => {
      const place = await bench.place();
      const { result } = await bench.behind(network, async () => {
        const { tree, milliseconds } = await unpack(bench, image, place);
        const lines = await times((which) =>
          runUnderRunc(path.join(place, `runc${which}`), tree, image.command, signal),
        );
        return milliseconds / 1000 + last(lines);
      });
      return result;
    },
  });
  const rows = await bench.rows("s", [
    skim(wayNames.skim, "indexed"),
    ...(flags.profile ? [skim(wayNames.profile, "profiled")] : []),
    ...(flags.profile && flags.daemon ? [withDaemon] : []),
    unpacking(wayNames.unpack, skimUnpack),
    unpacking(wayNames.peers, skopeoUmoci),
  ]);
  return {
    name: `ten/${image.name}/${network.name}`,
    title: `${containers} containers of ${image.title} at once, until the last has its first line; ${network.name}`,
    rows,
    comparisons: rows
      .filter(({ system }) => system !== wayNames.peers)
      .map(({ system }) => ({ row: system, against: wayNames.peers, inverse: true })),
  };
}
