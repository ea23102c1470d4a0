import type { CountTable, Figure } from "./figure.js";

/** What a run gives every scenario. */
export interface BenchRun {
  /** For everything that is made; it is removed afterwards. */
  readonly workDir: string;
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface Measured {
  readonly figures: readonly Figure[];
  readonly counts?: readonly CountTable[];
}

export interface Scenario {
  /** By the names that --only takes. */
  readonly figures: readonly string[];
  readonly programs: readonly string[];
  /** How it is measured, for people. */
  readonly method: string;
  open(run: BenchRun): Promise<{ measure(figure: string): Promise<Measured>; close(): Promise<void> }>;
}
