/** Rounds: each system is measured once in each, by turns, so that what disturbs the machine for a while disturbs all of them. */
import type { Row } from "./figure.js";

/** What is measured, and how: one sample each time `measure` is called. */
export interface Subject {
  readonly system: string;
  measure(): Promise<number>;
}

export async function rowsByTurns(
  rounds: number,
  unit: string,
  subjects: readonly Subject[],
): Promise<Row[]> {
  const samples = subjects.map(() => [] as number[]);
  for (let round = 0; round < rounds; round++)
    for (const [i, subject] of subjects.entries()) samples[i]!.push(await subject.measure());
  return subjects.map(({ system }, i) => ({ system, unit, samples: samples[i]! }));
}
