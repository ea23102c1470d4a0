/**
 * Plots as SVG without scripts and without colours of its own: parts have classes (`c0` ... the colour of a name, `axis`, `grid`, `quiet`), and the page's style sheet
 * decides how they look in light and in dark.
 */
import { escaped, shownNumber } from "./markup.js";
import type { Bar, BarPlot, LinePlot, Plot } from "./plot.js";

/** The class of whatever has this name: the same in all plots of a page. */
export type ColourClass = (name: string) => string;

const width = 860;

export function svgOf(plot: Plot, colourOf: ColourClass): string {
  return plot.kind === "bars" ? barSvg(plot, colourOf) : lineSvg(plot, colourOf);
}

const names = { x: 190, gap: 10 };
const barArea = { start: names.x + names.gap, end: 760 };
const rowHeight = 24;
const groupHead = 30;

function barSvg({ title, unit, groups }: BarPlot, colourOf: ColourClass): string {
  let y = 4;
  const parts: string[] = [];
  for (const { name, bars } of groups) {
    parts.push(text(0, y + 19, name, "group"));
    y += groupHead;
    const most = Math.max(...bars.map(({ value, high = value }) => Math.max(value, high)), Number.MIN_VALUE);
    const x = (value: number) => barArea.start + (value / most) * (barArea.end - barArea.start);
    for (const bar of bars) {
      parts.push(barRow(bar, y, x, unit, colourOf(bar.name)));
      y += rowHeight;
    }
    y += 8;
  }
  return svg(title, y, parts);
}

function barRow(bar: Bar, y: number, x: (value: number) => number, unit: string, colour: string): string {
  const { name, value, low = value, high = value } = bar;
  const end = x(value);
  const middle = y + rowHeight / 2;
  const said = `${shownNumber(value)} ${unit}`;
  const spread = high > low ? ` (${shownNumber(low)} to ${shownNumber(high)})` : "";
  return [
    `<g><title>${escaped(`${name}: ${said}${spread}`)}</title>`,
    text(names.x, middle + 4, name, "name"),
    `<rect class="${colour}" x="${barArea.start}" y="${y + 4}" width="${fixed(Math.max(end - barArea.start, 1))}" height="${rowHeight - 8}"/>`,
    high > low ? `<path class="spread" d="M${fixed(x(low))} ${middle}H${fixed(x(high))}"/>` : "",
    text(Math.max(end, x(high)) + 6, middle + 4, said, "value"),
    "</g>",
  ].join("");
}

const area = { left: 64, right: 830, top: 12, bottom: 320 };

function lineSvg({ title, xTitle, yTitle, lines }: LinePlot, colourOf: ColourClass): string {
  const points = lines.flatMap((line) => line.points);
  const xTicks = ticks(Math.max(...points.map(([x]) => x), ...lines.map(({ mark }) => mark?.x ?? 0)));
  const yTicks = ticks(Math.max(...points.map(([, y]) => y)));
  const x = (value: number) => area.left + (value / xTicks.at(-1)!) * (area.right - area.left);
  const y = (value: number) => area.bottom - (value / yTicks.at(-1)!) * (area.bottom - area.top);
  const parts = [
    ...yTicks.map(
      (tick) =>
        `<path class="grid" d="M${area.left} ${fixed(y(tick))}H${area.right}"/>${text(area.left - 8, y(tick) + 4, tickText(tick), "name")}`,
    ),
    ...xTicks.map((tick) => text(x(tick), area.bottom + 18, tickText(tick), "tick")),
    `<path class="axis" d="M${area.left} ${area.top}V${area.bottom}H${area.right}"/>`,
    text((area.left + area.right) / 2, area.bottom + 36, xTitle, "tick"),
    text(area.left + 6, area.top + 8, yTitle, "value"),
  ];
  let legendX = area.left;
  let legendY = area.bottom + 62;
  for (const { name, points: course, dots, mark } of lines) {
    const colour = colourOf(name);
    const path = course.map(([px, py], at) => `${at ? "L" : "M"}${fixed(x(px))} ${fixed(y(py))}`).join("");
    if (path) parts.push(`<path class="line ${colour}" d="${path}"><title>${escaped(name)}</title></path>`);
    if (dots)
      for (const [px, py] of course)
        parts.push(
          `<circle class="${colour}" cx="${fixed(x(px))}" cy="${fixed(y(py))}" r="4"><title>${escaped(`${name}: ${shownNumber(py)} at ${shownNumber(px)}`)}</title></circle>`,
        );
    if (mark)
      parts.push(
        `<path class="mark ${colour}" d="M${fixed(x(mark.x))} ${area.top}V${area.bottom}"><title>${escaped(`${name}: ${mark.name} at ${shownNumber(mark.x)}`)}</title></path>`,
      );
    const entry = `${name}${mark ? `, ${mark.name} at ${shownNumber(mark.x)}` : ""}`;
    // Room for a letter and a half each more than letters take: entries must not touch.
    const entryWidth = 34 + entry.length * 7.2;
    if (legendX + entryWidth > width && legendX > area.left) {
      legendX = area.left;
      legendY += 20;
    }
    parts.push(`<rect class="${colour}" x="${legendX}" y="${legendY - 9}" width="12" height="10"/>`);
    parts.push(text(legendX + 18, legendY, entry, "value"));
    legendX += entryWidth;
  }
  return svg(title, legendY + 12, parts);
}

/** From 0 in four to eight steps of 1, 2 or 5 times a power of ten; the last is not below `most`. */
export function ticks(most: number): number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough)!;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, at) => at * step);
}

/** Without the digits that binary fractions leave behind. */
function tickText(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function svg(title: string, height: number, parts: readonly string[]): string {
  return `<svg role="img" viewBox="0 0 ${width} ${Math.ceil(height)}" xmlns="http://www.w3.org/2000/svg"><title>${escaped(title)}</title>${parts.join("")}</svg>`;
}

function text(x: number, y: number, content: string, kind: string): string {
  return `<text class="${kind}" x="${fixed(x)}" y="${fixed(y)}">${escaped(content)}</text>`;
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10);
}
