/**
 * Counts of a host that never go down, made from those of its mounts, which come and go: what a mount has counted is kept when it is gone. Without that, each unmount would look
 * to Prometheus like a counter that began anew, and all of what the other mounts have would be counted once more.
 */
import { Histogram, type HistogramSnapshot, latencyBoundsSeconds } from "../base/histogram.js";
import type { ObservedMount } from "../mount/observe-mounts.js";
import type { MountStats } from "../mount/serve-image.js";
import { addTotals, type MountTotals, noTotals, totalsOf } from "./mount-totals.js";

interface Entry {
  readonly totals: MountTotals;
  /** Of the record: the same id may be given again. */
  readonly createdAt: string;
  readonly servingSinceMs: number;
}

export class HostLedger {
  readonly #present = new Map<string, Entry>();
  readonly #ready = new Histogram(latencyBoundsSeconds);
  #gone = noTotals;
  #started = 0;
  #restarts = 0;

  /** Takes down how all mounts of the host are now. One that is not among them any more has ended; one that does not answer has what it had. */
  look(mounts: readonly ObservedMount[]): void {
    const listed = new Set(mounts.map(({ id }) => id));
    for (const id of this.#present.keys()) if (!listed.has(id)) this.#retire(id);
    for (const { id, createdAt, stats } of mounts) if (stats) this.#note(id, createdAt, stats);
  }

  /** The last word of a mount that ends: what it did since the look before is not lost. */
  ended(id: string, createdAt: string, stats: MountStats): void {
    this.#note(id, createdAt, stats);
    this.#retire(id);
  }

  /** Of all mounts that there ever were. */
  totals(): MountTotals {
    return [...this.#present.values()].reduce((sum, { totals }) => addTotals(sum, totals), this.#gone);
  }

  /** Mounts that became ready, and how long each took. */
  get started(): number {
    return this.#started;
  }

  readySeconds(): HistogramSnapshot {
    return this.#ready.snapshot();
  }

  /** How often a mount got another server. */
  get serverRestarts(): number {
    return this.#restarts;
  }

  #note(id: string, createdAt: string, stats: MountStats): void {
    const { servingSinceMs } = stats;
    const before = this.#present.get(id);
    const isSameMount = before?.createdAt === createdAt;
    const isSameServer = isSameMount && before.servingSinceMs === servingSinceMs;
    if (before && !isSameServer) this.#retire(id);
    if (isSameMount && !isSameServer) this.#restarts++;
    if (!isSameMount) {
      this.#started++;
      this.#ready.observe(stats.readyMs / 1000);
    }
    this.#present.set(id, { totals: totalsOf(stats), createdAt, servingSinceMs });
  }

  #retire(id: string): void {
    const entry = this.#present.get(id);
    if (!entry) return;
    this.#gone = addTotals(this.#gone, entry.totals);
    this.#present.delete(id);
  }
}
