/** Whether filling the cache in the background delays the start that it runs beside. */
import type { Figure } from "../../src/bench/figure.js";
import { withPrefetch } from "../../src/bench/skim-flags.js";
import type { NetworkProfile } from "../network/profiles.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";

/** Undefined where the skim at hand has no background fill. */
export async function measureBackgroundFill(
  bench: StartBench,
  image: StartImage,
  network: NetworkProfile,
): Promise<Figure | undefined> {
  const { flags } = bench;
  if (!flags.backgroundFill) return undefined;
  const start = (system: string, fill: string) => ({
    system,
    measure: async () => {
      const cacheDir = await bench.coldCache(image);
      // The last one counts: a start of the benchmark is without fill unless it says otherwise.
      const args = [...withPrefetch(flags), "--background-fill", fill];
      const { result } = await bench.behind(network, () => bench.skimRun(image, { cacheDir, args }));
      return result.firstLineMs / 1000;
    },
  });
  const rows = await bench.rows("s", [start("without fill", "off"), start("idle fill", "idle")]);
  return {
    name: `fill/${image.name}/${network.name}`,
    title: `a cold start of ${image.title} while the rest of the image is fetched in the background; ${network.name}`,
    rows,
    comparisons: [{ row: "idle fill", against: "without fill", target: { atMost: 1.1 } }],
  };
}
