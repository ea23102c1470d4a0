/** The scenario `start`: how long from a command to a program that is of use, by lazy mount and by full extraction, over several networks. */
import type { NetworkProfile } from "../network/profiles.js";
import type { Measured, Scenario } from "../support/scenario.js";
import { measureBackgroundFill } from "./background-fill.js";
import { describe, measureArchive, measureIndexing } from "./index-figures.js";
import { measureSecondStart } from "./second-start.js";
import { StartBench } from "./start-bench.js";
import {
  growthPlot,
  type MeasuredStarts,
  measureStarts,
  startFigures,
  startPlot,
  timelinePlot,
} from "./start-figures.js";
import type { StartImage } from "./start-images.js";
import { measureTenStarts } from "./ten-starts.js";
import { measureWholeTree } from "./whole-tree.js";

/** The network that targets, timelines and comparisons of images speak of. */
const usualNetwork = "far";

const programs = ["skopeo", "umoci", "mmdebstrap", "mkfs.ext4", "runc", "dd", "du", "find"];

const method = `Method: systems take turns, one measurement at a time; medians of all rounds, with the lowest and the highest; a system that has taken two minutes is left out
of further rounds.

A start is measured from before the command is forked until the first line of the program is here, node's own start included. "Nothing fetched before": a new, empty place for all
that is fetched and unpacked, everything before it written back. skim has indexed the image before, as a host of a fleet has the archive of what it runs; what that takes is the figure
index. Programs (node, runc, skopeo, umoci) and the registry's blobs are in the page cache.

All bytes come from one registry through one proxy with the round trip, bandwidth and jitter of the network (npm run bench -- network measures it). There is no TLS, no slow start
and no loss; the 10 Gbit/s of datacentre are more than two cores carry that also run what is measured.

"inflate and hash" is what indexing cannot do without: a process of node that reads the blobs of the layers from the page cache, all side by side, takes the sha256 of each, inflates it
with node's zlib in another thread, and takes the sha256 of what comes out, the diffId. "Pieces too": and of every MiB of it, as skim does. It makes no restart points, reads no tar
and writes nothing; skim index is the whole command, from the layout to the archive on disk and the start set. Both times have node's own start in them.

"ideal" is arithmetic: 3 round trips, the bytes that a start without prefetching fetches at the speed of the link, and the time of the same program in an unpacked tree under runc
with everything in memory.`;

export const startScenario: Scenario = {
  figures: ["start", "second", "ten", "whole-tree", "fill", "index", "archive"],
  programs,
  method,
  open: async (run) => {
    const bench = await StartBench.open(run);
    const measures: Record<string, () => AsyncGenerator<Measured>> = {
      start: () => starts(bench),
      second: () =>
        eachImage(bench, async (image) =>
          figure(await bench.emptied(() => measureSecondStart(bench, image))),
        ),
      ten: () =>
        eachNetwork(bench, async (image, network) => figure(await measureTenStarts(bench, image, network))),
      "whole-tree": () =>
        eachNetwork(bench, async (image, network) => figure(await measureWholeTree(bench, image, network))),
      fill: () =>
        eachNetwork(bench, async (image, network) => {
          const filled = await measureBackgroundFill(bench, image, network);
          if (!filled) run.say("this skim has no --background-fill");
          return filled ? figure(filled) : { figures: [] };
        }),
      index: () => eachImage(bench, async (image) => figure(await measureIndexing(bench, image))),
      archive: () => eachImage(bench, async (image) => ({ figures: await measureArchive(bench, image) })),
    };
    return { measure: (name) => measures[name]!(), close: () => bench.close() };
  },
};

const figure = (one: Measured["figures"][number]): Measured => ({ figures: [one] });

async function* starts(bench: StartBench): AsyncGenerator<Measured> {
  const usual: MeasuredStarts[] = [];
  const imageBytes = new Map<string, number>();
  for (const image of bench.images) {
    const { compressedBytes } = await describe(bench, image);
    imageBytes.set(image.name, compressedBytes);
    const measured: MeasuredStarts[] = [];
    for (const network of bench.networks) {
      const one = await measureStarts(bench, image, network);
      measured.push(one);
      if (network.name === usualNetwork) usual.push(one);
      yield { figures: startFigures(one) };
    }
    const timelines = measured.filter(({ network }) => network.name === usualNetwork).map(timelinePlot);
    yield { figures: [], plots: [...startPlot(measured, compressedBytes), ...timelines] };
  }
  if (usual.length > 1) yield { figures: [], plots: [growthPlot(usual, imageBytes)] };
}

async function* eachImage(
  bench: StartBench,
  measure: (image: StartImage) => Promise<Measured>,
): AsyncGenerator<Measured> {
  for (const image of bench.images) yield await measure(image);
}

/** Behind the networks of --network, or the two that figures beyond the start have targets for. */
async function* eachNetwork(
  bench: StartBench,
  measure: (image: StartImage, network: NetworkProfile) => Promise<Measured>,
): AsyncGenerator<Measured> {
  const asked = bench.run.networks;
  const networks = bench.networks.filter(({ name }) =>
    (asked ?? ["datacentre", usualNetwork]).includes(name),
  );
  for (const image of bench.images) for (const network of networks) yield await measure(image, network);
}
