import { describe, expect, it } from "vitest";
import { Link, seededRandom } from "../../bench/network/link.js";
import type { NetworkProfile } from "../../bench/network/profiles.js";

/** 1,000 bytes a millisecond, and 10 ms there. */
const steady: NetworkProfile = { name: "test", roundTripMs: 20, bitsPerSecond: 8e6, jitterMs: 0 };

/** Advances from event to event until nothing is under way; what arrived, with the time the clock then showed. */
function arrivals<T>(link: Link<T>): { readonly at: number; readonly piece: T }[] {
  const all: { at: number; piece: T }[] = [];
  for (let at = 0; Number.isFinite(at); at = Math.max(at, link.nextAt()))
    for (const { piece } of link.advance(at)) all.push({ at, piece });
  return all;
}

describe("a link", () => {
  it("delivers a piece after the time of the wire and half the round trip", () => {
    const link = new Link<string>(steady, 1);
    link.push(link.open(0), "piece", 5000, 0);
    expect(arrivals(link)).toEqual([{ at: 15, piece: "piece" }]);
  });

  it("takes nothing from a lane before it opens", () => {
    const link = new Link<string>(steady, 1);
    link.push(link.open(20), "late", 1000, 0);
    link.push(link.open(0), "open", 1000, 0);
    expect(arrivals(link)).toEqual([
      { at: 11, piece: "open" },
      { at: 31, piece: "late" },
    ]);
  });

  it("gives each lane its turn, however much one of them has to send", () => {
    const link = new Link<string>(steady, 1);
    const [greedy, modest] = [link.open(0), link.open(0)];
    for (let i = 0; i < 6; i++) link.push(greedy, `greedy${i}`, 1000, 0);
    for (let i = 0; i < 2; i++) link.push(modest, `modest${i}`, 1000, 0);
    expect(arrivals(link).map(({ piece }) => piece)).toEqual([
      "greedy0",
      "modest0",
      "greedy1",
      "modest1",
      "greedy2",
      "greedy3",
      "greedy4",
      "greedy5",
    ]);
  });

  it("carries its rate and no more, with many lanes as with one", () => {
    for (const lanes of [1, 7]) {
      const link = new Link<number>(steady, 1);
      const opened = Array.from({ length: lanes }, () => link.open(0));
      for (let i = 0; i < 700; i++) link.push(opened[i % lanes]!, i, 1000, 0);
      expect(arrivals(link).at(-1)!.at).toBeCloseTo(700 + 10, 6);
    }
  });

  it("is as fast when it is asked late", () => {
    const link = new Link<number>(steady, 1);
    const lane = link.open(0);
    for (let i = 0; i < 100; i++) link.push(lane, i, 1000, 0);
    const last: number[] = [];
    for (let now = 0; now < 200; now += 7) if (link.advance(now).length > 0) last.push(now);
    expect(last.at(-1)).toBe(112);
  });

  it("never lets a piece pass the one before it in its lane, whatever the jitter", () => {
    const link = new Link<number>({ ...steady, jitterMs: 19 }, 7);
    const lanes = [link.open(0), link.open(0)];
    for (let i = 0; i < 200; i++) link.push(lanes[i % 2]!, i, 100, 0);
    const pieces = arrivals(link).map(({ piece }) => piece);
    for (const parity of [0, 1]) {
      const mine = pieces.filter((piece) => piece % 2 === parity);
      expect(mine).toEqual(mine.toSorted((a, b) => a - b));
      expect(mine).toHaveLength(100);
    }
  });

  it("spreads pieces around half the round trip", () => {
    const link = new Link<number>({ ...steady, jitterMs: 4 }, 5);
    const delays: number[] = [];
    for (let i = 0; i < 500; i++) {
      const lane = link.open(i * 100);
      link.push(lane, i, 1000, i * 100);
      for (let at = i * 100; Number.isFinite(at); at = Math.max(at, link.nextAt()))
        for (const _ of link.advance(at)) delays.push(at - i * 100 - 1);
    }
    expect(delays).toHaveLength(500);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(8);
    expect(Math.max(...delays)).toBeLessThanOrEqual(12);
    const mean = delays.reduce((sum, one) => sum + one, 0) / delays.length;
    expect(Math.abs(mean - 10)).toBeLessThan(0.2);
  });

  it("has the same jitter for the same seed, and another for another", () => {
    const times = (seed: number) => {
      const link = new Link<number>({ ...steady, jitterMs: 5 }, seed);
      const lane = link.open(0);
      for (let i = 0; i < 20; i++) link.push(lane, i, 1000, 0);
      return arrivals(link).map(({ at }) => at);
    };
    expect(times(3)).toEqual(times(3));
    expect(times(3)).not.toEqual(times(4));
  });

  it("keeps what a blocked lane has, and lets the others pass", () => {
    const link = new Link<string>(steady, 1);
    const [blocked, open] = [link.open(0), link.open(0)];
    link.push(blocked, "blocked", 1000, 0);
    link.push(open, "open", 1000, 0);
    const isBlocked = (lane: unknown) => lane === blocked;
    link.advance(0, isBlocked);
    link.advance(1, isBlocked);
    expect(link.advance(20, isBlocked).map(({ piece }) => piece)).toEqual(["open"]);
    expect(link.nextAt(isBlocked)).toBe(Number.POSITIVE_INFINITY);
    expect(link.advance(20).map(({ piece }) => piece)).toEqual(["blocked"]);
    expect(blocked.bytes).toBe(0);
  });

  it("cuts pieces to what a slow wire sends in half a millisecond, within bounds", () => {
    const pieceBytes = (bitsPerSecond: number) => new Link({ ...steady, bitsPerSecond }, 1).pieceBytes;
    expect(pieceBytes(10e9)).toBe(64 * 1024);
    expect(pieceBytes(1e9)).toBe(62_500);
    expect(pieceBytes(1e6)).toBe(8 * 1024);
    expect(pieceBytes(Number.POSITIVE_INFINITY)).toBe(64 * 1024);
  });
});

describe("seeded random numbers", () => {
  it("are spread over 0 to 1", () => {
    const random = seededRandom(1);
    const numbers = Array.from({ length: 10_000 }, random);
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...numbers)).toBeLessThan(1);
    const mean = numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
    expect(mean).toBeCloseTo(0.5, 1);
  });
});
