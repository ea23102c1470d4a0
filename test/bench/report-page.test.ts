import { describe, expect, it } from "vitest";
import type { Figure } from "../../src/bench/figure.js";
import type { Plot } from "../../src/bench/plot.js";
import { reportPage } from "../../src/bench/report-page.js";
import { svgOf, ticks } from "../../src/bench/svg-plot.js";

const figure: Figure = {
  name: "start/<b>",
  title: `a & b "quoted"`,
  rows: [
    { system: "lazy", unit: "s", samples: [3, 1, 2] },
    { system: "full <img src=x>", unit: "s", samples: [8] },
  ],
  comparisons: [
    { row: "lazy", against: "full <img src=x>", inverse: true, target: { atLeast: 3 } },
    { row: "full <img src=x>", target: { atMost: 5 } },
  ],
};

const bars: Plot = {
  kind: "bars",
  title: "bars",
  unit: "s",
  groups: [
    {
      name: "far & away",
      bars: [
        { name: "lazy", value: 2, low: 1, high: 3 },
        { name: "full", value: 8 },
      ],
    },
    { name: "near", bars: [{ name: "lazy", value: 0 }] },
  ],
};

const lines: Plot = {
  kind: "lines",
  title: "lines",
  xTitle: "seconds",
  yTitle: "MB",
  lines: [
    {
      name: "lazy",
      points: [
        [0, 0],
        [1, 10],
      ],
      mark: { x: 2, name: "first line" },
    },
    { name: "full", dots: true, points: [[2, 5]] },
  ],
};

/** Every element is closed in the order in which it was opened, and nothing is left that a browser would read as markup. */
function expectWellFormed(markup: string): void {
  const open: string[] = [];
  const empty = new Set(["meta", "!doctype"]);
  for (const [, closing, name = "", attributes = "", selfClosing] of markup.matchAll(
    /<(\/?)([a-zA-Z!][a-zA-Z0-9]*)((?:\s+[a-zA-Z-]+(?:="[^"<>]*")?)*)\s*(\/?)>/g,
  )) {
    if (closing) expect(open.pop()).toBe(name);
    else if (!selfClosing && !empty.has(name.toLowerCase())) open.push(name);
    expect(attributes).not.toMatch(/NaN|Infinity|undefined/);
  }
  expect(open).toEqual([]);
  const rest = markup.replace(/<style>[\s\S]*?<\/style>/, "").replace(/<\/?[a-zA-Z!][^<>]*>/g, "");
  expect(rest).not.toMatch(/[<>]|&(?!(?:amp|lt|gt|quot|#39);)|NaN|undefined/);
}

describe("a report", () => {
  const page = reportPage({
    title: "skim: <start>",
    facts: { cpu: "A & B", cores: 2 },
    text: "one\ntwo <three>",
    figures: [figure],
    plots: [bars, lines],
  });

  it("is well-formed, whatever names are in it", () => {
    expectWellFormed(page);
    expect(page).toContain("full &lt;img src=x&gt;");
    expect(page).not.toContain("<img");
  });

  it("loads nothing and runs nothing", () => {
    expect(page.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(
      /https?:|<script|<link|@import|url\(/,
    );
  });

  it("is light or dark as the reader's system is", () => {
    expect(page).toContain("prefers-color-scheme: dark");
    expect(page).toContain("color-scheme: light dark");
  });

  it("tells medians, spreads, ratios, and whether targets are reached", () => {
    expect(page).toContain(`<td class="number">2.00 s</td><td class="number">1.00 – 3.00</td>`);
    expect(page).toContain("4.00  (full &lt;img src=x&gt; / lazy)");
    expect(page).toContain(`<td class="reached">reached</td>`);
    expect(page).toContain(`<td class="missed">missed</td>`);
  });

  it("has a name in one colour in all plots", () => {
    const classes = (name: string) =>
      new Set(
        [...page.matchAll(new RegExp(`<title>${name}[^<]*</title>[\\s\\S]*?<rect class="(c\\d)"`, "g"))].map(
          (match) => match[1],
        ),
      );
    expect(classes("lazy").size).toBe(1);
    expect(classes("full").size).toBe(1);
    expect(classes("lazy")).not.toEqual(classes("full"));
  });
});

describe("a plot", () => {
  it("draws bars in proportion to the longest of their group", () => {
    const widths = [...svgOf(bars, () => "c0").matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, one]) =>
      Number(one),
    );
    expect(widths[0]! / widths[1]!).toBeCloseTo(2 / 8, 2);
  });

  it("can be drawn when nothing was measured", () => {
    expectWellFormed(svgOf({ ...lines, lines: [] }, () => "c0"));
    expectWellFormed(svgOf({ ...bars, groups: [{ name: "none", bars: [] }] }, () => "c0"));
  });

  it("has an axis of round steps that holds everything", () => {
    for (const most of [0.013, 1, 7, 99.9, 100, 1234, 4e9]) {
      const steps = ticks(most);
      expect(steps[0]).toBe(0);
      expect(steps.at(-1)!).toBeGreaterThanOrEqual(most * (1 - 1e-9));
      expect(steps.length).toBeGreaterThanOrEqual(3);
      expect(steps.length).toBeLessThanOrEqual(7);
    }
    expect(ticks(0)).toEqual([0, 1]);
    expect(ticks(10)).toEqual([0, 2, 4, 6, 8, 10]);
  });
});
