/** Where long work reports how far it is. Rooms call it; the command line draws it. */
export interface Progress {
  /** Starts a line of its own, e.g. one layer. `total` in bytes, undefined where it is not known. */
  start(label: string, total: number | undefined): ProgressTask;
}

export interface ProgressTask {
  advance(bytes: number): void;
  /** `outcome` replaces the count, e.g. "already indexed". */
  done(outcome?: string): void;
}

export const noProgress: Progress = { start: () => ({ advance() {}, done() {} }) };
