/**
 * What a run spends its time with, one thing at a time: so the time between two looks at it comes apart into parts that add up.
 *
 * - network: it has nothing to decode, and waits for bytes; time for a connection and for attempts that failed is in it.
 * - inflate: a span is inflated, compared with its digest and written to the cache.
 * - queue: it waits for others: for its turn on the link, for a thread, for a disk that is slower than the network.
 */
export const phases = ["network", "inflate", "queue"] as const;
export type Phase = (typeof phases)[number];

/** Milliseconds. */
export type PhaseTimes = Readonly<Record<Phase, number>>;

export class PhaseClock {
  readonly #spent: Record<Phase, number> = { network: 0, inflate: 0, queue: 0 };
  #phase: Phase = "queue";
  #since = performance.now();

  get phase(): Phase {
    return this.#phase;
  }

  enter(phase: Phase): void {
    const now = performance.now();
    this.#spent[this.#phase] += now - this.#since;
    this.#phase = phase;
    this.#since = now;
  }

  read(): PhaseTimes {
    this.enter(this.#phase);
    return { ...this.#spent };
  }

  /** Since `before`, which `read` has given. */
  since(before: PhaseTimes): PhaseTimes {
    const now = this.read();
    return {
      network: now.network - before.network,
      inflate: now.inflate - before.inflate,
      queue: now.queue - before.queue,
    };
  }
}

export function addPhases(a: PhaseTimes, b: PhaseTimes): PhaseTimes {
  return { network: a.network + b.network, inflate: a.inflate + b.inflate, queue: a.queue + b.queue };
}

export const noPhases: PhaseTimes = { network: 0, inflate: 0, queue: 0 };
