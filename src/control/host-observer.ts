/** What is known of a whole host at one moment, from which its metrics are rendered. */
import type { HistogramSnapshot } from "../base/histogram.js";
import type { Settings } from "../base/settings.js";
import { type CacheSpace, cacheSpace } from "../mount/cache-space.js";
import type { EvictionCounts } from "../mount/disk-cache.js";
import { type ObservedMount, observeMounts } from "../mount/observe-mounts.js";
import { HostLedger } from "./host-ledger.js";
import { evictionCounters, type MountTotals } from "./mount-totals.js";

export interface HostObservations {
  /** As they are now. */
  readonly mounts: readonly ObservedMount[];
  /** Of all mounts there ever were, those that are gone included: they never go down. */
  readonly totals: MountTotals;
  readonly mountsStarted: number;
  readonly mountFailures: number;
  readonly serverRestarts: number;
  readonly readySeconds: HistogramSnapshot;
  /** Undefined where it cannot be looked at just now. */
  readonly cache: CacheSpace | undefined;
}

export interface HostObserverOptions {
  readonly settings: Settings;
  /** Default: the records of the run directory, and what the server of each says. */
  readonly mounts?: () => Promise<readonly ObservedMount[]>;
  /** Of a cache that several mounts share, which would each tell of the same evictions. Default: what the mounts tell, added up. */
  readonly evictions?: () => EvictionCounts;
  /** Mounts that did not become ready: who mounts knows of them. Default: 0. */
  readonly mountFailures?: () => number;
  /** Default: those that are seen, which are fewer where two come between two looks. */
  readonly serverRestarts?: () => number;
}

/** To be kept as long as somebody scrapes: it remembers what mounts that are gone have counted. */
export class HostObserver {
  readonly ledger = new HostLedger();
  readonly #options: HostObserverOptions;

  constructor(options: HostObserverOptions) {
    this.#options = options;
  }

  async look(): Promise<HostObservations> {
    const { settings, mounts: list = () => observeMounts(settings.runDir) } = this.#options;
    const [mounts, cache] = await Promise.all([list(), cacheSpace(settings).catch(() => undefined)]);
    this.ledger.look(mounts);
    return {
      mounts,
      totals: this.#totals(),
      mountsStarted: this.ledger.started,
      mountFailures: this.#options.mountFailures?.() ?? 0,
      serverRestarts: this.#options.serverRestarts?.() ?? this.ledger.serverRestarts,
      readySeconds: this.ledger.readySeconds(),
      cache,
    };
  }

  #totals(): MountTotals {
    const totals = this.ledger.totals();
    const evicted = this.#options.evictions?.();
    return evicted ? { ...totals, counters: { ...totals.counters, ...evictionCounters(evicted) } } : totals;
  }
}
