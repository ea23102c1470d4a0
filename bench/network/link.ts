/**
 * One direction of a network, as arithmetic: a wire of a given rate that all connections share, then a delay. It moves no bytes and keeps no time of its
 * own; the proxy hands it pieces, asks it what has arrived by now, and when to ask again.
 *
 *     lane A  ▦▦▦ ┐
 *     lane B  ▦   ├─ round robin ─▶ wire (one piece at a time, bytes / rate) ─▶ delay + jitter ─▶ arrived, in the order of the lane
 *     lane C  ▦▦  ┘
 *
 * A lane is one connection. Pieces wait in their lane until the wire takes them; the wire takes one of each lane in turn, so that lanes share the rate evenly
 * however much each has to send. Jitter never makes a piece arrive before the one ahead of it in its lane.
 *
 * What it leaves out: TCP's slow start and losses. It is kind to those who open many connections, and to those who open few.
 */
import type { NetworkProfile } from "./profiles.js";

/** Pieces the wire takes in one turn of a lane: a shorter wait for the others on a slow wire, fewer turns on a fast one. */
const pieceBytesMin = 8 * 1024;
const pieceBytesMax = 64 * 1024;
const pieceMs = 0.5;

/** How far ahead of now the wire is given work: fewer turns; but what is given can no longer be overtaken by another lane. */
const aheadMs = 1;

interface Transit<T> {
  readonly piece: T;
  readonly bytes: number;
  /** Of which the piece has arrived, once the wire has taken it. */
  readonly arrivesAt: number;
}

export class Lane<T> {
  /** Bytes that wait for the wire, or are on their way. */
  bytes = 0;
  readonly waiting: { readonly piece: T; readonly bytes: number; readonly readyAt: number }[] = [];
  readonly transit: Transit<T>[] = [];
  /** Nothing enters the wire before: the handshake of the connection. */
  readonly opensAt: number;
  lastArrival = 0;

  constructor(opensAt: number) {
    this.opensAt = opensAt;
  }
}

export class Link<T> {
  readonly #profile: NetworkProfile;
  readonly #random: () => number;
  /** In the order of their next turn. */
  readonly #lanes: Lane<T>[] = [];
  /** When the wire has sent all that it was given. */
  #freeAt = 0;

  /** `seed`: of the jitter. Times are milliseconds of any clock that does not go back. */
  constructor(profile: NetworkProfile, seed: number) {
    this.#profile = profile;
    this.#random = seededRandom(seed);
  }

  /** The most bytes of one piece. */
  get pieceBytes(): number {
    const bytes = (this.#profile.bitsPerSecond / 8 / 1000) * pieceMs;
    return Math.round(Math.min(Math.max(bytes, pieceBytesMin), pieceBytesMax));
  }

  open(opensAt: number): Lane<T> {
    const lane = new Lane<T>(opensAt);
    this.#lanes.push(lane);
    return lane;
  }

  close(lane: Lane<T>): void {
    const at = this.#lanes.indexOf(lane);
    if (at >= 0) this.#lanes.splice(at, 1);
  }

  /** `bytes` may be 0: a mark in the stream, which takes the wire no time. */
  push(lane: Lane<T>, piece: T, bytes: number, now: number): void {
    lane.waiting.push({ piece, bytes, readyAt: Math.max(now, lane.opensAt) });
    lane.bytes += bytes;
  }

  /** Gives the wire what it can take by `now`, and returns what has arrived, lane by lane in order. A lane that `isBlocked` keeps what it has. */
  advance(
    now: number,
    isBlocked: (lane: Lane<T>) => boolean = () => false,
  ): { readonly lane: Lane<T>; readonly piece: T; readonly bytes: number }[] {
    this.#transmit(now);
    const arrived: { lane: Lane<T>; piece: T; bytes: number }[] = [];
    for (const lane of this.#lanes) {
      if (isBlocked(lane)) continue;
      let taken = 0;
      while (taken < lane.transit.length && lane.transit[taken]!.arrivesAt <= now) taken++;
      for (const { piece, bytes } of lane.transit.splice(0, taken)) {
        lane.bytes -= bytes;
        arrived.push({ lane, piece, bytes });
      }
    }
    return arrived;
  }

  /** When `advance` has something to do again; Infinity: when a piece has been pushed. */
  nextAt(isBlocked: (lane: Lane<T>) => boolean = () => false): number {
    let next = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes) {
      if (lane.transit.length > 0 && !isBlocked(lane)) next = Math.min(next, lane.transit[0]!.arrivesAt);
      if (lane.waiting.length > 0)
        next = Math.min(next, Math.max(lane.waiting[0]!.readyAt, this.#freeAt - aheadMs));
    }
    return next;
  }

  #transmit(now: number): void {
    const { roundTripMs, bitsPerSecond, jitterMs } = this.#profile;
    while (this.#freeAt <= now + aheadMs) {
      const turn = this.#lanes.findIndex(({ waiting }) => waiting.length > 0 && waiting[0]!.readyAt <= now);
      if (turn < 0) return;
      // Its next turn comes after everybody else's.
      const [lane] = this.#lanes.splice(turn, 1) as [Lane<T>];
      this.#lanes.push(lane);
      const { piece, bytes, readyAt } = lane.waiting.shift()!;
      // Not from now on: a process that comes late must not make the wire a slower one.
      this.#freeAt = Math.max(this.#freeAt, readyAt) + (bytes * 8 * 1000) / bitsPerSecond;
      const arrivesAt = this.#freeAt + roundTripMs / 2 + (this.#random() - 0.5) * jitterMs;
      lane.lastArrival = Math.max(lane.lastArrival, arrivesAt);
      lane.transit.push({ piece, bytes, arrivesAt: lane.lastArrival });
    }
  }
}

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
