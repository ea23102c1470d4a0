import { beforeAll, expect, it } from "vitest";
import { SkimError } from "../../src/base/errors.js";
import { makeTempDir } from "../support/temp-dir.js";
import { differences } from "../support/tree-dump.js";
import { indexedStack } from "./index-stack.js";
import type { ModelEvent } from "./model-events.js";
import { randomStack } from "./random-layers.js";
import { asDump, entriesOf, forStacks, runsOf, seed, Tally, traitsOf } from "./random-runs.js";
import { modelOf } from "./reference-model.js";

const runs = runsOf(1000, 200);

/** How many trees of a hundred must have been through it: half of what seeds give, or a change of the generator has made the test worth less. */
const happens: Readonly<Record<ModelEvent, number>> = {
  "a whiteout hides something": 12,
  "a whiteout hides something through a link": 1,
  "an opaque directory loses something": 6,
  "a name of a whiteout is content": 8,
  "an entry goes through a link": 12,
  "a directory is implied": 40,
  "a directory is declared again": 12,
  "a directory replaces a link": 2,
  "a file becomes a directory": 20,
  "a type changes": 30,
  "a path is declared twice in a layer": 30,
  "the root is described": 10,
  "a name has .. in it": 8,
  "a hard link": 30,
  "a hard link to a symbolic link": 3,
  "a hard link to what comes later": 18,
  "a hard link to what the layer hides": 2,
  "a hard link to a file of AUFS": 10,
  "a name of several is replaced": 8,
  "a sparse file": 15,
  "an attribute is left out": 40,
  "an attribute of users is left out of what is neither file nor directory": 25,
  "an attribute is kept": 40,
};

let dir = "";
beforeAll(async () => {
  dir = await makeTempDir("model");
});

it(
  `random layers give the archive that the model gives, or both refuse them for the same layer (seed ${seed})`,
  async () => {
    const trees = new Tally();
    const refusals = new Tally();
    await forStacks(randomStack("anything"), runs, async (stack) => {
      const expected = modelOf(entriesOf(stack));
      const actual = await indexedStack(stack, dir);
      if (actual instanceof SkimError) {
        expect(actual.message).toMatch(new RegExp(`^layer \\d+ of ${stack.layers.length}\\b`));
        expect({ tree: expected.lines, layer: expected.refusal?.layer }).toEqual({
          tree: undefined,
          layer: refusedLayer(actual) ?? expected.refusal?.layer,
        });
        refusals.add([expected.refusal!.reason.split(":")[0]!]);
      } else {
        expect(expected.refusal).toBe(undefined);
        expect(differences(asDump(expected.lines!), actual)).toEqual([]);
        trees.add([...expected.events, ...traitsOf(stack)]);
      }
    });
    console.log(`seed ${seed}: ${trees.stacks} trees: ${trees}; ${refusals.stacks} refused: ${refusals}`);
    if (runs.count < 500) return;
    expect(trees.stacks / runs.count).toBeGreaterThan(0.6);
    const rare = Object.entries(happens).filter(([event, percent]) => trees.share(event) * 100 < percent);
    expect(rare.map(([event]) => `${event}: in ${(trees.share(event) * 100).toFixed(1)} %`)).toEqual([]);
  },
  runs.timeoutMs,
);

/** Undefined for a limit, which is seen when the tars are read, before any layer is applied. */
function refusedLayer({ code, message }: SkimError): number | undefined {
  return code === "LIMIT_EXCEEDED" ? undefined : Number(/^layer (\d+)/.exec(message)![1]);
}
