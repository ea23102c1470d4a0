/** A report in one HTML file: nothing is loaded from elsewhere, so that it can be sent, kept and read offline. Light or dark as the reader's system is. */
import { type Figure, summaryOfRow } from "./figure.js";
import { comparisonCells } from "./figure-table.js";
import { escaped, shownNumber } from "./markup.js";
import type { Plot } from "./plot.js";
import { svgOf } from "./svg-plot.js";

export interface Report {
  readonly title: string;
  /** Where and when it was measured. */
  readonly facts: Readonly<Record<string, string | number>>;
  /** How it was measured; paragraphs are parted by empty lines. */
  readonly text: string;
  readonly figures: readonly Figure[];
  readonly plots: readonly Plot[];
}

/** Told apart by those who see few colours, on white and on black (Okabe and Ito). */
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d46", "#808080"];

const styleSheet = `
:root { color-scheme: light dark; --back: #ffffff; --ink: #1c1e21; --quiet: #5d646c; --rule: #d9dce0; --good: #1a7f37; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --ink: #e4e7ea; --quiet: #9aa2ab; --rule: #343a40; --good: #57c46f; --bad: #ff8a80; } }
body { margin: 0 auto; max-width: 1000px; padding: 24px 16px; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 8px; } h2 { font-size: 17px; margin: 36px 0 8px; }
p, dl { color: var(--quiet); margin: 0 0 8px; } dl { display: flex; flex-wrap: wrap; gap: 2px 18px; } dl div { display: flex; gap: 6px; } dd { margin: 0; color: var(--ink); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 14px 3px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule); } th { color: var(--quiet); font-weight: 500; } td.number { text-align: right; }
.reached { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .name { text-anchor: end; } svg .tick { text-anchor: middle; fill: var(--quiet); } svg .group { font-weight: 600; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--quiet); fill: none; } svg .spread { stroke: var(--ink); stroke-width: 1.5; }
svg .line, svg .mark { fill: none; stroke-width: 2; } svg .mark { stroke-width: 1; stroke-dasharray: 4 4; }
${colours.map((colour, at) => `svg .c${at} { fill: ${colour}; } svg .line.c${at}, svg .mark.c${at} { fill: none; stroke: ${colour}; }`).join("\n")}
`;

export function reportPage({ title, facts, text, figures, plots }: Report): string {
  const known = new Map<string, number>();
  const colourOf = (name: string) => {
    const at = known.get(name) ?? known.size;
    known.set(name, at);
    return `c${at % colours.length}`;
  };
  const factList = Object.entries(facts).map(
    ([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(String(value))}</dd></div>`,
  );
  const drawn = plots.map(
    (plot) => `<section><h2>${escaped(plot.title)}</h2>\n${svgOf(plot, colourOf)}</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${styleSheet}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<dl>${factList.join("")}</dl>
${drawn.join("\n")}
${figures.map(figureSection).join("\n")}
<section><h2>How it was measured</h2>
${text
  .split(/\n\n+/)
  .map((paragraph) => `<p>${escaped(paragraph)}</p>`)
  .join("\n")}</section>
</body>
</html>
`;
}

function figureSection(figure: Figure): string {
  const lines = figure.rows.flatMap(({ system, unit }) => {
    const { median, min, max, rounds } = summaryOfRow(figure, system);
    const measured = [
      cell(system),
      cell(`${shownNumber(median)} ${unit}`, "number"),
      cell(`${shownNumber(min)} – ${shownNumber(max)}`, "number"),
      cell(String(rounds), "number"),
    ].join("");
    const compared = figure.comparisons
      .filter(({ row }) => row === system)
      .map((one) => {
        const [ratio = "", target = "", verdict = ""] = comparisonCells(figure, one);
        return cell(ratio) + cell(target) + cell(verdict.toLowerCase(), verdict.toLowerCase());
      });
    const [first = cell("").repeat(3), ...others] = compared;
    return [measured + first, ...others.map((cells) => cell("").repeat(4) + cells)];
  });
  const head = ["", "median", "spread", "rounds", "ratio", "target", ""].map(
    (name) => `<th scope="col">${name}</th>`,
  );
  return `<section><h2>${escaped(figure.name)}</h2><p>${escaped(figure.title)}</p>
<div class="scroll"><table><thead><tr>${head.join("")}</tr></thead>
<tbody>${lines.map((line) => `<tr>${line}</tr>`).join("\n")}</tbody></table></div></section>`;
}

function cell(content: string, kind = ""): string {
  return `<td${kind ? ` class="${kind}"` : ""}>${escaped(content)}</td>`;
}
