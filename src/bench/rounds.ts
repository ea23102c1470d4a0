/** Rounds: each system is measured once in each, by turns, so that what disturbs the machine for a while disturbs all of them. */
import type { Row } from "./figure.js";

/** What is measured, and how: one sample each time `measure` is called. */
export interface Subject<T = number> {
  readonly system: string;
  measure(): Promise<T>;
}

/** A system on which this much time has been spent is left out of further rounds: nothing is learned from a fifth pull of two minutes. */
const systemMsMax = 120_000;

/** The samples of each subject, in the order of subjects. A slow subject has fewer than `rounds`, but one at least. */
export async function samplesByTurns<T>(rounds: number, subjects: readonly Subject<T>[]): Promise<T[][]> {
  const turns = subjects.map((subject) => ({ subject, samples: [] as T[], spentMs: 0 }));
  for (let round = 0; round < rounds; round++)
    for (const turn of turns) {
      if (turn.spentMs > systemMsMax) continue;
      const started = performance.now();
      turn.samples.push(await turn.subject.measure());
      turn.spentMs += performance.now() - started;
    }
  return turns.map(({ samples }) => samples);
}

export async function rowsByTurns(
  rounds: number,
  unit: string,
  subjects: readonly Subject[],
): Promise<Row[]> {
  const samples = await samplesByTurns(rounds, subjects);
  return subjects.map(({ system }, i) => ({ system, unit, samples: samples[i]! }));
}
