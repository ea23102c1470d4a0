import { readdir, realpath, rm } from "node:fs/promises";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { stampFile } from "../../src/unpack/stamp.js";
import { makeTempDir } from "../support/temp-dir.js";
import { differences, dumpTree } from "../support/tree-dump.js";
import { randomStack } from "./random-layers.js";
import { asDump, entriesOf, forStacks, runsOf, seed, Tally, traitsOf } from "./random-runs.js";
import { modelOf } from "./reference-model.js";
import { withLayout } from "./stack-layout.js";

const runs = runsOf(40, 3000);
const modes = ["copy", "extract"] as const;

let dir = "";
beforeAll(async () => {
  dir = await realpath(await makeTempDir("model-unpack"));
});

it(
  `random layers are unpacked to what the model gives, in every mode, or to nothing at all (seed ${seed})`,
  async () => {
    const trees = new Tally();
    const refusals = new Tally();
    await forStacks(randomStack("visible to all"), runs, async (stack) => {
      const { lines, refusal, events } = modelOf(entriesOf(stack));
      await withLayout(stack, dir, async (image, room) => {
        for (const mode of modes) {
          const directory = path.join(room, mode);
          const settings = { cacheDir: path.join(room, `cache of ${mode}`) };
          const unpacked = unpackImage({ image, directory, mode, settings });
          if (lines) {
            expect((await unpacked).mode).toBe(mode);
            expect(differences(asDump(lines), await dumpTree(directory)), mode).toEqual([]);
          } else {
            await expect(unpacked, `${mode}, of ${refusal!.reason}`).rejects.toMatchObject({
              code: expect.stringMatching(/^(LAYER_CORRUPT|LIMIT_EXCEEDED)$/),
            });
            // The lock of a directory stays beside it.
            await rm(stampFile(directory), { force: true });
            const left = (await readdir(room)).filter((name) => !name.startsWith("cache of"));
            expect(left, mode).toEqual(["image"]);
          }
        }
      });
      if (lines) trees.add([...events, ...traitsOf(stack)]);
      else refusals.add([refusal!.reason.split(":")[0]!]);
    });
    console.log(`seed ${seed}: ${trees.stacks} trees: ${trees}; ${refusals.stacks} refused: ${refusals}`);
  },
  runs.timeoutMs,
);
