/** Reading everything: the worst that can happen to a lazy mount, as it must fetch what a pull fetches, in an order that it does not choose. */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { Figure } from "../../src/bench/figure.js";
import type { NetworkProfile } from "../network/profiles.js";
import { run } from "../support/processes.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";
import { skimUnpack, skopeoUmoci } from "./ways.js";

export async function measureWholeTree(
  bench: StartBench,
  image: StartImage,
  network: NetworkProfile,
): Promise<Figure> {
  const { signal } = bench;
  /** Seconds to read every file below `tree`, by processes of find. */
  const readAll = async (tree: string) => {
    const read = ["-type", "f", "-exec", "cat", "{}", "+"];
    return (await run("find", [tree, ...read], { signal, discard: true })).milliseconds / 1000;
  };
  const unpacking = (system: string, unpack: typeof skimUnpack) => ({
    system,
    measure: async () => {
      const place = await bench.place();
      const { result } = await bench.behind(network, async () => {
        const { tree, milliseconds } = await unpack(bench, image, place);
        return milliseconds / 1000 + (await readAll(tree));
      });
      return result;
    },
  });
  const skim = {
    system: "skim mount",
    measure: async () => {
      const cacheDir = await bench.coldCache(image);
      const mountpoint = path.join(await bench.place(), "mount");
      await mkdir(mountpoint);
      const { result } = await bench.behind(network, async () => {
        const mount = ["mount", bench.reference(image), mountpoint, "--cache-dir", cacheDir];
        const { milliseconds } = await bench.skim(mount);
        try {
          return milliseconds / 1000 + (await readAll(mountpoint));
        } finally {
          // Not to be interrupted with the rest.
          await run(process.execPath, [...bench.cli, "umount", mountpoint, "--cache-dir", cacheDir]);
        }
      });
      return result;
    },
  };
  const peers = "skopeo, umoci";
  const rows = await bench.rows("s", [
    skim,
    unpacking("skim unpack", skimUnpack),
    unpacking(peers, skopeoUmoci),
  ]);
  const target = network.name === "datacentre" ? { target: { atMost: 1 } } : {};
  return {
    name: `whole-tree/${image.name}/${network.name}`,
    title: `every file of ${image.title} read once, nothing fetched before; ${network.name}`,
    rows,
    comparisons: [
      { row: skim.system, against: peers, ...target },
      { row: "skim unpack", against: peers },
    ],
  };
}
