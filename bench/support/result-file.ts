/**
 * Results as lines of JSON: first `{kind: "machine"}`, then for each figure, as soon as it is there, its `measurement` lines (one a system, with all
 * samples), `comparison` lines, and `counts` lines. An interrupted run leaves the figures that it finished.
 */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type CountTable, type Figure, outcomeOf, summaryOfRow, targetText } from "../../src/bench/figure.js";
import type { Machine } from "./machine.js";

export class ResultFile {
  readonly file: string;
  readonly #scenario: string;

  constructor(file: string, scenario: string, machine: Machine, details: Record<string, unknown>) {
    this.file = file;
    this.#scenario = scenario;
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, "");
    this.#append({ kind: "machine", ...machine, ...details });
  }

  addFigure(figure: Figure): void {
    const { name } = figure;
    for (const { system, unit, samples } of figure.rows)
      this.#append({
        kind: "measurement",
        figure: name,
        system,
        unit,
        ...summaryOfRow(figure, system),
        samples,
      });
    for (const comparison of figure.comparisons) {
      const { target, ...compared } = comparison;
      this.#append({
        kind: "comparison",
        figure: name,
        ...compared,
        ...outcomeOf(figure, comparison),
        ...(target ? { target: targetText(target) } : {}),
      });
    }
  }

  addCounts(table: CountTable): void {
    for (const { system, counts } of table.columns)
      this.#append({ kind: "counts", figure: table.figure, system, counts });
  }

  #append(line: Record<string, unknown>): void {
    appendFileSync(this.file, `${JSON.stringify({ scenario: this.#scenario, ...line })}\n`);
  }
}

/** `<scenario>-<date and time>.jsonl`, so that no run replaces another's. */
export function defaultResultFile(scenario: string): string {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return path.resolve(import.meta.dirname, "../..", "bench/results", `${scenario}-${stamp}.jsonl`);
}
