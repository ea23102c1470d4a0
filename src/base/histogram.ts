/** How often something took how long: counts by range, in a fixed and small amount of memory. What Prometheus calls a histogram, before it is written as text. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** `bounds`: ascending; a value belongs to the first that it is not above, or behind the last. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const found = this.#bounds.findIndex((bound) => value <= bound);
    const position = found < 0 ? this.#bounds.length : found;
    this.#counts[position] = this.#counts[position]! + 1;
    this.#sum += value;
  }

  snapshot(): HistogramSnapshot {
    return { bounds: this.#bounds, counts: [...this.#counts], sum: this.#sum };
  }
}

export interface HistogramSnapshot {
  readonly bounds: readonly number[];
  /** For each bound those that are not above it and above the one before, and one more: those above the last. Not cumulative. */
  readonly counts: readonly number[];
  /** Of all values. */
  readonly sum: number;
}

/**
 * Seconds that a reader may wait for a span: a memory copy takes a tenth of a millisecond, a span from disk some milliseconds, one from a registry a round trip or more; the
 * last bound is the deadline of a read.
 */
export const latencyBoundsSeconds: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

export function countOf({ counts }: HistogramSnapshot): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Of the same bounds. */
export function addHistograms(a: HistogramSnapshot, b: HistogramSnapshot): HistogramSnapshot {
  return {
    bounds: a.bounds,
    counts: a.counts.map((count, position) => count + b.counts[position]!),
    sum: a.sum + b.sum,
  };
}
