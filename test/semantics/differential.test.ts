/**
 * The same operations on the same tree, at random: mounts of all engines must answer alike, and like a plain filesystem onto which the tree
 * was written. A failure names its seed; SKIM_TEST_SEED=N runs another one, SKIM_RUNS=N makes more trees.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { filesystems, type MountedTree, makeRoom, mountsBelow, unmountBelow } from "../posix/filesystems.js";
import { type EngineName, engines } from "../support/engines.js";
import { endServers } from "../support/fuse-mount.js";
import { look } from "../support/look.js";
import { makeTempDir } from "../support/temp-dir.js";
import type { DescribedTree } from "../support/write-tree.js";
import { type Answer, forEngines, forPlain } from "./answers.js";
import { everyOperation, type Operation, randomOperation } from "./operations.js";
import { randomTree, type TreeKind } from "./random-tree.js";

const program = readFileSync(path.join(import.meta.dirname, "operate.py"), "latin1");
const seed = Number(process.env.SKIM_TEST_SEED ?? 20_261_126);
const treesOfAKind = Number(process.env.SKIM_RUNS ?? 6);
/** Lists of operations for each tree. */
const listsOfATree = 6;

let dir = "";

beforeAll(async () => {
  dir = await makeTempDir("semantics");
});

afterAll(async () => {
  await endServers();
  await unmountBelow(dir);
});

const kinds: ReadonlyArray<readonly [TreeKind, readonly EngineName[]]> = [
  ["passable to every engine", engines],
  ["with anything in it", engines.filter((engine) => engine !== "fuse-native")],
];

describe.each(kinds)("a tree %s", (kind, engineNames) => {
  const trees = fc.sample(randomTree(kind), { seed, numRuns: treesOfAKind });

  it.each(trees.map((tree, i) => [i, tree] as const))(
    "is the same to all who look at it, whatever they ask (tree %i)",
    async (i, tree) => {
      const room = await makeRoom(dir, `${kind.split(" ")[0]} ${i}`);
      const mounts = await mountAll(room, tree, ["tmpfs", ...engineNames]);
      try {
        const compare = (operations: Operation[]) => compareAnswers(mounts, operations, tree);
        const lists = fc.array(randomOperation(tree.root), { minLength: 1, maxLength: 120, size: "max" });
        await fc.assert(fc.asyncProperty(lists, compare), {
          seed,
          numRuns: listsOfATree,
          // A failure is shrunk for so long.
          interruptAfterTimeLimit: 40_000,
        });
        await compare(everyOperation(tree.root));
      } catch (error) {
        throw new Error(`SKIM_TEST_SEED=${seed}, a tree ${kind}, number ${i}`, { cause: error });
      } finally {
        for (const { mounted } of mounts) await mounted.unmount();
      }
      expect(await mountsBelow(room)).toEqual([]);
    },
  );
});

interface NamedMount {
  readonly name: string;
  readonly mounted: MountedTree;
}

async function mountAll(room: string, tree: DescribedTree, names: readonly string[]): Promise<NamedMount[]> {
  const mounts: NamedMount[] = [];
  for (const name of names) {
    const filesystem = filesystems.find((one) => one.name === name)!;
    mounts.push({ name, mounted: await filesystem.mount(await makeRoom(room, name), tree) });
  }
  return mounts;
}

async function compareAnswers(
  [plain, ...others]: readonly NamedMount[],
  operations: Operation[],
  { root }: DescribedTree,
): Promise<void> {
  const ask = async ({ name, mounted }: NamedMount) => ({
    name,
    answers: await look<Answer[]>(program, mounted.root, operations),
  });
  const expected = forPlain((await ask(plain!)).answers, operations, root);
  const answers = await Promise.all(others.map(ask));
  for (const one of answers) {
    expectSame(
      one.name,
      forPlain(structuredClone(one.answers), operations, root),
      "tmpfs",
      expected,
      operations,
    );
  }
  for (const [i, one] of answers.slice(1).entries()) {
    const before = answers[i]!;
    expectSame(one.name, forEngines(one.answers), before.name, forEngines(before.answers), operations);
  }
}

/** Compares one answer at a time: a difference comes with its operation. */
function expectSame(
  name: string,
  actual: readonly Answer[],
  expectedName: string,
  expected: readonly Answer[],
  operations: readonly Operation[],
): void {
  for (const [i, operation] of operations.entries()) {
    expect({ operation, [name]: actual[i] }, `${name} against ${expectedName}`).toEqual({
      operation,
      [name]: expected[i],
    });
  }
}
