/**
 * Who goes first, on the link and in the threads that inflate: what a reader waits for, before everything else.
 *
 * A run that nobody waits for asks for its turn before each piece that it takes from the network and inflates. While it has to wait it does not read,
 * so TCP's window closes and its sender stops. What is on its way by then cannot be called back, so it is bounded: all requests ahead of need together
 * ask for about what the link carries in a round trip (link-estimate.ts). That much is under way when a reader misses something, and no more.
 *
 * What will be needed soon goes on while a reader's request travels, for the link is idle until the answer comes, and stops while its bytes arrive. Filling stops
 * as soon as anybody wants anything. A reader who comes to wait for such a run makes it urgent there and then.
 *
 * Inflating is bounded for all but urgent runs: libuv's pool has the threads to spare that readers need (launch-server.ts says how many it has).
 */
import { Semaphore } from "../base/semaphore.js";
import { orAborted } from "../registry/call-scope.js";
import { LinkEstimate } from "./link-estimate.js";

/**
 * - demand: a reader waits.
 * - ahead: it will be read soon, as a start profile, a start set or a sequential reader says.
 * - fill: nobody has asked; all that is missing.
 */
export type Urgency = "demand" | "ahead" | "fill";

/** How many of each inflate at the same time; spans that readers wait for are not bounded. */
const inflatingMax = { ahead: 2, fill: 1 } as const;

class Pause {
  isOver = false;
  readonly over: Promise<void>;
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.over = new Promise((resolve) => {
      this.#timer = setTimeout(() => {
        this.isOver = true;
        resolve();
      }, ms).unref();
    });
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

export class Traffic {
  readonly link = new LinkEstimate();
  /** Runs that readers wait for and whose bytes arrive. */
  #arriving = 0;
  /** Compressed bytes of requests that nobody waits for. */
  #requestedBytes = 0;
  readonly #underWay: Record<Urgency, number> = { demand: 0, ahead: 0, fill: 0 };
  readonly #inflating = { ahead: new Semaphore(inflatingMax.ahead), fill: new Semaphore(inflatingMax.fill) };
  /** When something other than filling was last under way, of performance.now(). */
  #busyAt = performance.now();
  #changed = () => {};
  #change = new Promise<void>((resolve) => {
    this.#changed = resolve;
  });

  /** Something of this urgency is under way until the returned function is called (once). */
  enter(urgency: Urgency): () => void {
    this.#underWay[urgency]++;
    this.changed();
    return () => {
      this.#underWay[urgency]--;
      if (urgency !== "fill") this.#busyAt = performance.now();
      this.changed();
    };
  }

  /** Bytes that a reader waits for arrive until the returned function is called (once). */
  arriving(): () => void {
    this.#arriving++;
    return () => {
      this.#arriving--;
      this.changed();
    };
  }

  /**
   * Runs `request`, which asks for `bytes` that nobody waits for, when not too much is under way; one request always may be. `request` says what has
   * arrived. Rejects with the reason of `signal`.
   */
  async request<T>(
    bytes: number,
    request: (arrived: (bytes: number) => void) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    while (this.#requestedBytes > 0 && this.#requestedBytes + bytes > this.link.bytesAheadMax)
      await orAborted(this.#change, signal);
    signal.throwIfAborted();
    let left = 0;
    const expect = (more: number) => {
      left += more;
      this.#requestedBytes += more;
      if (more < 0) this.changed();
    };
    expect(bytes);
    try {
      return await request((arrived) => expect(-Math.min(arrived, left)));
    } finally {
      expect(-left);
    }
  }

  /** Milliseconds in which nothing was under way but filling; 0 where something is. */
  get quietMs(): number {
    return this.#underWay.demand + this.#underWay.ahead > 0 ? 0 : performance.now() - this.#busyAt;
  }

  /**
   * Resolves when nobody goes before, and not before `pauseMs` are over; at once when `urgency`, which is asked again whenever something
   * changes, is demand. Rejects with the reason of `signal`.
   */
  async turn(urgency: () => Urgency, signal: AbortSignal, pauseMs = 0): Promise<void> {
    const pause = pauseMs > 0 ? new Pause(pauseMs) : undefined;
    try {
      while (urgency() !== "demand" && (this.mustWait(urgency()) || pause?.isOver === false))
        await orAborted(
          pause && !pause.isOver ? Promise.race([this.#change, pause.over]) : this.#change,
          signal,
        );
    } finally {
      pause?.end();
    }
  }

  /** Wakes who waits for a turn: an urgency may have changed. */
  changed(): void {
    this.#changed();
    this.#change = new Promise((resolve) => {
      this.#changed = resolve;
    });
  }

  /** Runs `work`, which inflates a span, when there is a place for it. */
  async inflate<T>(urgency: Urgency, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return urgency === "demand" ? await work() : await this.#inflating[urgency].run(work, signal);
  }

  /** True where something goes before what is of this urgency. */
  mustWait(urgency: Urgency): boolean {
    if (urgency === "demand") return false;
    if (urgency === "ahead") return this.#arriving > 0;
    return this.#underWay.demand + this.#underWay.ahead > 0;
  }
}
