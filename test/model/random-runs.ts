/**
 * How the random tests of this directory run. SKIM_TEST_SEED=N draws the same stacks again, SKIM_RUNS=N that many of them. What
 * fails names the seed, the path to the failure, and the smallest stack that still fails, in the notation of layer-notation.ts.
 */
import fc from "fast-check";
import type { DumpLine } from "../support/tree-dump.js";
import type { ModelLine } from "./model-tree.js";
import type { RandomStack } from "./random-layers.js";
import type { ModelEntry } from "./reference-model.js";

export const seed = Number(process.env.SKIM_TEST_SEED ?? Date.now() % 2 ** 31);

export interface Runs {
  readonly count: number;
  /** For the whole test. */
  readonly timeoutMs: number;
}

/** `eachMs`: what one run takes on a slow machine. Some minutes more are for shrinking a failure. */
export function runsOf(usual: number, eachMs: number): Runs {
  const count = Number(process.env.SKIM_RUNS ?? usual);
  return { count, timeoutMs: count * eachMs + 240_000 };
}

export async function forStacks(
  stacks: fc.Arbitrary<RandomStack>,
  { count, timeoutMs }: Runs,
  check: (stack: RandomStack) => Promise<void>,
): Promise<void> {
  await fc.assert(fc.asyncProperty(stacks, check), {
    seed,
    numRuns: count,
    // Before the test's own timeout, which would say nothing of what was found so far.
    interruptAfterTimeLimit: timeoutMs - 60_000,
    markInterruptAsFailure: true,
  });
}

export function entriesOf({ layers }: RandomStack): Array<readonly ModelEntry[]> {
  return layers.map(({ entries }) => entries);
}

/** For `differences` of tree-dump.ts, whose lines have the same fields. */
export function asDump(lines: readonly ModelLine[]): DumpLine[] {
  return lines as unknown as DumpLine[];
}

/** What the layers of a stack are like, as far as it makes no difference to the model. */
export function traitsOf({ layers }: RandomStack): string[] {
  const entries = layers.flatMap((layer) => layer.entries);
  const parts = entries.flatMap(({ path }) => path.split("/"));
  return [
    ...layers.map(({ storedAs }) => `a layer stored as ${storedAs}`),
    ...entries.flatMap(({ sparseFormat }) => (sparseFormat ? [`${sparseFormat} sparse file`] : [])),
    ...(layers.some((layer, i) => layer === layers[i - 1]) ? ["the same layer twice"] : []),
    ...(layers.some(({ entries }) => entries.length === 0) ? ["an empty layer"] : []),
    ...(layers.length === 0 ? ["no layers"] : []),
    ...(parts.some((part) => part.length === 255) ? ["a name of 255 bytes"] : []),
    ...(parts.some((part) => /[\x80-\xff]/.test(part)) ? ["a name that is not ASCII"] : []),
  ];
}

/** Counts in how many stacks something was the case. */
export class Tally {
  readonly #counts = new Map<string, number>();
  stacks = 0;

  add(cases: Iterable<string>): void {
    this.stacks++;
    for (const one of new Set(cases)) this.#counts.set(one, (this.#counts.get(one) ?? 0) + 1);
  }

  share(one: string): number {
    return (this.#counts.get(one) ?? 0) / Math.max(1, this.stacks);
  }

  toString(): string {
    const byCount = [...this.#counts].sort(([, a], [, b]) => b - a);
    return byCount.map(([one, count]) => `${count} ${one}`).join(", ");
  }
}
