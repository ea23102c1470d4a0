/** What readers and prefetches have to do with a run (fetch-run.ts). */
import type { SkimError } from "../base/errors.js";
import type { PhaseTimes } from "./phase-clock.js";
import type { Urgency } from "./traffic.js";

/** What a run is for that needs no waiters. */
export interface UnwaitedRun {
  readonly urgency: Exclude<Urgency, "demand">;
  /** Milliseconds to wait before this many compressed bytes more are taken; asked once for each piece. */
  readonly pace?: (bytes: number) => number;
  /** Called with the length of each piece that arrives. */
  readonly onArrived?: (bytes: number) => void;
  /** Called with each span that has come. */
  readonly onSpan?: (span: number) => void;
  /** Called where spans are given up because their bytes are wrong. */
  readonly onDamage?: (error: SkimError) => void;
}

/** A reader's place at a run. */
export interface SpanWait {
  readonly span: number;
  /** Of the run: see FetchRun.sequence. */
  readonly sequence: number;
  /** The span's bytes, verified; not to be changed. May never settle after `leave`. */
  readonly bytes: Promise<Uint8Array>;
  /** What the run was busy with while this waited: until the span came, or until now. */
  spent(): PhaseTimes;
  /** Gives the place up. May be called at any time, and more than once. */
  leave(): void;
}
