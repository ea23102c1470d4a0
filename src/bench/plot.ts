/** What a report draws, as plain data. Rendered by svg-plot.ts. */
export type Plot = BarPlot | LinePlot;

/** Horizontal bars, in groups with a scale of their own each: what is compared stands within a group. */
export interface BarPlot {
  readonly kind: "bars";
  readonly title: string;
  readonly unit: string;
  readonly groups: readonly BarGroup[];
}

export interface BarGroup {
  readonly name: string;
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** The spread of the samples, drawn as a line over the bar's end. */
  readonly low?: number;
  readonly high?: number;
}

/** Lines over a common scale that begins at 0 / 0. */
export interface LinePlot {
  readonly kind: "lines";
  readonly title: string;
  readonly xTitle: string;
  readonly yTitle: string;
  readonly lines: readonly Line[];
}

export interface Line {
  readonly name: string;
  /** Ascending in x. */
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Drawn as a dot on each point: measured values, rather than a course. */
  readonly dots?: boolean;
  /** A vertical line of this line's colour. */
  readonly mark?: { readonly x: number; readonly name: string };
}
