/**
 * What a scenario reports: figures, each with the samples of several systems and what they are to be held against.
 *
 * A figure is one quantity, measured on all systems by turns in the same rounds. A comparison sets the median of one row against
 * that of another, or against a number; it may have a target, and is then reached or missed. Nothing fails by a missed target.
 */
import { median, type Summary, summaryOf } from "./statistics.js";

export interface Figure {
  /** As --only takes it. */
  readonly name: string;
  /** What was done, for people. */
  readonly title: string;
  readonly rows: readonly Row[];
  readonly comparisons: readonly Comparison[];
}

export interface Row {
  readonly system: string;
  /** "s", "ms", "us", "GB/s", "IOPS", "MB". */
  readonly unit: string;
  readonly samples: readonly number[];
}

export interface Comparison {
  readonly row: string;
  /** The row below the fraction line; undefined: the median itself is held against the target. */
  readonly against?: string;
  /** The other way round: how many times `against` is what `row` is. "Five times as fast" is said of times that way. */
  readonly inverse?: true;
  readonly target?: Target;
}

export type Target = { readonly atMost: number } | { readonly atLeast: number } | { readonly below: number };

/** Counts by name, next to a figure, that have no spread worth showing: FUSE requests by operation. */
export interface CountTable {
  readonly figure: string;
  readonly title: string;
  readonly columns: readonly { readonly system: string; readonly counts: Readonly<Record<string, number>> }[];
}

export interface Outcome {
  readonly value: number;
  /** Undefined where there is no target. */
  readonly reached?: boolean;
}

export function outcomeOf(figure: Figure, comparison: Comparison): Outcome {
  const mine = summaryOfRow(figure, comparison.row).median;
  const { against, inverse, target } = comparison;
  const other = against === undefined ? 1 : summaryOfRow(figure, against).median;
  const value = inverse ? other / mine : mine / other;
  return target ? { value, reached: isReached(value, target) } : { value };
}

export function summaryOfRow(figure: Figure, system: string): Summary {
  const row = figure.rows.find((one) => one.system === system);
  if (!row) throw new Error(`figure ${figure.name} has no row ${system}`);
  return summaryOf(row.samples);
}

export function targetText(target: Target): string {
  if ("atMost" in target) return `<= ${target.atMost}`;
  return "below" in target ? `< ${target.below}` : `>= ${target.atLeast}`;
}

function isReached(value: number, target: Target): boolean {
  if ("atMost" in target) return value <= target.atMost;
  return "below" in target ? value < target.below : value >= target.atLeast;
}

/** The median of each count over the rounds; an operation that a round did not have counts as 0. */
export function medianCounts(rounds: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = new Set(rounds.flatMap((round) => Object.keys(round)));
  return Object.fromEntries(
    [...names].map((name) => [name, median(rounds.map((round) => round[name] ?? 0))]),
  );
}
