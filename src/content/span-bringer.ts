/**
 * Brings whole spans to whoever asks: from memory, from disk, or from the network, in this order.
 *
 * Spans that are asked for together are looked for together, so that neighbours which are missing go out as one request. Each is a promise
 * of its own, with a signal of its own: one that fails or is not wanted any more takes no other along.
 */
import { setMaxListeners } from "node:events";
import { orAborted } from "../registry/call-scope.js";
import type { ContentLayer } from "./content-archive.js";
import type { FinishedWaits } from "./finished-waits.js";
import { addPhases, noPhases, type PhaseTimes } from "./phase-clock.js";
import type { SpanFetcher } from "./span-fetcher.js";
import type { SpanStore } from "./span-store.js";
import type { SpanWait } from "./span-wait.js";

export interface WantedSpan {
  /** Index of the span in the archive. */
  readonly span: number;
  /** Ends waiting; its reason is what the promise rejects with. */
  readonly signal: AbortSignal;
}

export interface BroughtSpan {
  /** All bytes of the span, verified; not to be changed. */
  readonly bytes: Uint8Array;
  readonly from: "memory" | "disk" | "network";
  /** What was done to fetch it while this was waited for; undefined where nothing was. */
  readonly spent?: PhaseTimes;
}

export class SpanBringer {
  readonly #store: SpanStore;
  readonly #fetcher: SpanFetcher;
  readonly #waits: FinishedWaits;

  constructor(parts: { store: SpanStore; fetcher: SpanFetcher; waits: FinishedWaits }) {
    this.#store = parts.store;
    this.#fetcher = parts.fetcher;
    this.#waits = parts.waits;
  }

  /**
   * One promise for each of `wanted`, spans of `layer`, none twice. They reject as fetching does, and with the reason of their signal. `aside`: nobody
   * who uses the image waits for them.
   */
  bring(layer: ContentLayer, wanted: readonly WantedSpan[], aside = false): Promise<BroughtSpan>[] {
    const sequence = this.#fetcher.nextSequence();
    const begun = this.#store.openLayer(layer).then(() => this.#begin(layer, wanted, sequence));
    return wanted.map(({ span, signal }) => {
      // Many spans of one read share a signal; node would warn of a leak at the eleventh.
      setMaxListeners(0, signal);
      const promise = orAborted(
        begun.then((brought) => brought.get(span)!),
        signal,
      );
      if (!aside) this.#watch(span, promise);
      return promise;
    });
  }

  #watch(span: number, promise: Promise<BroughtSpan>): void {
    const end = this.#waits.begin(span);
    promise.then(
      ({ from, spent }) => end(from === "disk" ? "cache" : from, spent),
      () => end("unserved"),
    );
  }

  #begin(
    layer: ContentLayer,
    wanted: readonly WantedSpan[],
    sequence: number,
  ): Map<number, Promise<BroughtSpan>> {
    const brought = new Map<number, Promise<BroughtSpan>>();
    const missing: WantedSpan[] = [];
    for (const one of wanted) {
      const held = this.#held(one.span);
      if (held) brought.set(one.span, Promise.resolve(held));
      else if (this.#store.onDisk(layer, one.span)) brought.set(one.span, this.#load(layer, one, sequence));
      else missing.push(one);
    }
    for (const [span, promise] of this.#fetch(layer, missing, sequence)) brought.set(span, promise);
    // Of spans that are asked for together some may be given up before anybody looks at how they ended.
    for (const promise of brought.values()) promise.catch(() => {});
    return brought;
  }

  async #load(layer: ContentLayer, wanted: WantedSpan, sequence: number): Promise<BroughtSpan> {
    const bytes = await this.#store.load(layer, wanted.span);
    if (bytes) return { bytes, from: "disk" };
    return await this.#heldOrFetched(layer, wanted, sequence);
  }

  #fetch(
    layer: ContentLayer,
    wanted: readonly WantedSpan[],
    sequence: number,
  ): Map<number, Promise<BroughtSpan>> {
    const bySpan = new Map(
      wanted.filter(({ signal }) => !signal.aborted).map((one) => [one.span, one] as const),
    );
    const ascending = [...bySpan.keys()].sort((a, b) => a - b);
    const waits = ascending.length > 0 ? this.#fetcher.fetch(layer, ascending) : [];
    return new Map(
      waits.map((wait) => [wait.span, this.#await(layer, bySpan.get(wait.span)!, wait, sequence)]),
    );
  }

  async #await(
    layer: ContentLayer,
    wanted: WantedSpan,
    wait: SpanWait,
    sequence: number,
  ): Promise<BroughtSpan> {
    const { signal } = wanted;
    const leave = () => wait.leave();
    signal.addEventListener("abort", leave, { once: true });
    try {
      return { bytes: await wait.bytes, from: "network", spent: wait.spent() };
    } catch (error) {
      // A run that began before this call had its own time and its own luck: its failure is not this call's.
      const joined = wait.sequence < sequence;
      if (!joined || signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", leave);
    }
    const inVain = wait.spent();
    const brought = await this.#heldOrFetched(layer, wanted, sequence);
    return { ...brought, spent: addPhases(inVain, brought.spent ?? noPhases) };
  }

  async #heldOrFetched(layer: ContentLayer, wanted: WantedSpan, sequence: number): Promise<BroughtSpan> {
    wanted.signal.throwIfAborted();
    const held = this.#held(wanted.span);
    if (held) return held;
    const fetched = this.#fetch(layer, [wanted], sequence).get(wanted.span);
    return await fetched!;
  }

  #held(span: number): BroughtSpan | undefined {
    const bytes = this.#store.held(span);
    return bytes && { bytes, from: "memory" };
  }
}
