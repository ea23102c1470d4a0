import type { CountTable, Figure } from "../../src/bench/figure.js";
import type { Plot } from "../../src/bench/plot.js";

/** What a run gives every scenario. */
export interface BenchRun {
  /** For everything that is made; it is removed afterwards. */
  readonly workDir: string;
  /** For images that take minutes to make; it stays. */
  readonly imageDir: string;
  readonly rounds: number;
  /** Names of --image and --network; undefined: all there are. A scenario that has none does not look. */
  readonly images: readonly string[] | undefined;
  readonly networks: readonly string[] | undefined;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface Measured {
  readonly figures: readonly Figure[];
  readonly counts?: readonly CountTable[];
  /** For the page of --html. */
  readonly plots?: readonly Plot[];
}

export interface OpenScenario {
  /** At once, or piece by piece where a figure takes long. */
  measure(figure: string): Promise<Measured> | AsyncGenerator<Measured>;
  close(): Promise<void>;
}

export interface Scenario {
  /** By the names that --only takes. */
  readonly figures: readonly string[];
  readonly programs: readonly string[];
  /** How it is measured, for people. */
  readonly method: string;
  open(run: BenchRun): Promise<OpenScenario>;
}
