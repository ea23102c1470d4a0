import { realpath } from "node:fs/promises";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { indexImage } from "../../src/mount/index-image.js";
import { engines } from "../support/engines.js";
import { makeTempDir } from "../support/temp-dir.js";
import { differences, dumpTree } from "../support/tree-dump.js";
import { whileMounted } from "../ways/mount-host.js";
import { asFuseNativeShows } from "../ways/shown-lines.js";
import { randomStack } from "./random-layers.js";
import { asDump, entriesOf, forStacks, runsOf, seed, Tally, traitsOf } from "./random-runs.js";
import { modelOf } from "./reference-model.js";
import { withLayout } from "./stack-layout.js";

const runs = runsOf(30, 3000);

let dir = "";
beforeAll(async () => {
  dir = await realpath(await makeTempDir("model-mounts"));
});

it(
  `mounts of random layers show what the model gives, by every engine (seed ${seed})`,
  async () => {
    const tally = new Tally();
    const trees = randomStack("visible to all").filter(
      (stack) => modelOf(entriesOf(stack)).lines !== undefined,
    );
    await forStacks(trees, runs, async (stack) => {
      const { lines, events } = modelOf(entriesOf(stack));
      await withLayout(stack, dir, async (image, room) => {
        const settings = { cacheDir: path.join(room, "cache of the index") };
        const { archive } = await indexImage({ image, settings });
        const mounted = engines.map(async (engine) => {
          const cacheDir = path.join(room, `cache of ${engine}`);
          const expected = asDump(lines!);
          return {
            engine,
            expected: engine === "fuse-native" ? asFuseNativeShows(expected) : expected,
            shown: await whileMounted({ archive, engine, cacheDir }, dumpTree),
          };
        });
        for (const { engine, expected, shown } of await Promise.all(mounted))
          expect(differences(expected, shown), engine).toEqual([]);
      });
      tally.add([...events, ...traitsOf(stack)]);
    });
    console.log(`seed ${seed}: ${tally.stacks} stacks, mounted by ${engines.join(" and ")}: ${tally}`);
  },
  runs.timeoutMs,
);
