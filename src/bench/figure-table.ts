/** Figures as a table for a terminal. */
import {
  type Comparison,
  type CountTable,
  type Figure,
  outcomeOf,
  summaryOfRow,
  targetText,
} from "./figure.js";
import { shownNumber } from "./markup.js";

/** Columns that hold words; the others hold numbers and are set flush right. */
type Alignment = "left" | "right";

/** A title, then a line for each system, with its comparisons beside and below it. */
export function figureText(figure: Figure): string {
  const lines = figure.rows.flatMap((row) => {
    const summary = summaryOfRow(figure, row.system);
    const measured = [
      `  ${row.system}`,
      `${shownNumber(summary.median)} ${row.unit}`,
      `${shownNumber(summary.min)} - ${shownNumber(summary.max)}`,
      String(summary.rounds),
    ];
    const compared = figure.comparisons
      .filter((one) => one.row === row.system)
      .map((one) => comparisonCells(figure, one));
    const [first = ["", "", ""], ...others] = compared;
    return [[...measured, ...first], ...others.map((cells) => ["", "", "", "", ...cells])];
  });
  const head = ["", "median", "spread", "rounds", "ratio", "target", ""];
  const table = align([head, ...lines], ["left", "right", "right", "right", "left", "left", "left"]);
  return `${figure.name}: ${figure.title}\n${table}\n`;
}

/** The ratio, its target, and whether that is reached. */
export function comparisonCells(figure: Figure, comparison: Comparison): string[] {
  const { value, reached } = outcomeOf(figure, comparison);
  const { row, against, inverse, target } = comparison;
  const ratio =
    against === undefined
      ? ""
      : `${value.toFixed(2)}  (${inverse ? `${against} / ${row}` : `${row} / ${against}`})`;
  const verdict = reached === undefined ? "" : reached ? "reached" : "MISSED";
  return [ratio, target ? targetText(target) : "", verdict];
}

/** A line for each name that is not 0 everywhere, a column for each system. */
export function countsText({ figure, title, columns }: CountTable): string {
  const names = [...new Set(columns.flatMap(({ counts }) => Object.keys(counts)))].sort();
  const asked = names.filter((name) => columns.some(({ counts }) => (counts[name] ?? 0) > 0));
  const total = (counts: Readonly<Record<string, number>>) =>
    Object.values(counts).reduce((sum, count) => sum + count, 0);
  const lines = [
    ["", ...columns.map(({ system }) => system)],
    ...asked.map((name) => [`  ${name}`, ...columns.map(({ counts }) => String(counts[name] ?? 0))]),
    ["  all", ...columns.map(({ counts }) => String(total(counts)))],
  ];
  return `${figure}: ${title}\n${align(lines, ["left", ...columns.map((): Alignment => "right")])}\n`;
}

function align(lines: readonly (readonly string[])[], alignments: readonly Alignment[]): string {
  const widths = alignments.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          alignments[column] === "left" ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
}
