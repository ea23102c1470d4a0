import { expect, test } from "vitest";
import { LinkEstimate } from "../../src/content/link-estimate.js";

const megabyte = 1 << 20;

test("before anything has arrived there is a first guess, and no round trip", () => {
  const link = new LinkEstimate(() => 0);
  expect([link.roundTripMs, link.roundTripBytes, link.bytesAheadMax]).toEqual([
    undefined,
    undefined,
    4 * megabyte,
  ]);
});

test("a link that is not full lets more under way, up to three times what it carries in a round trip", () => {
  let now = 0;
  const link = new LinkEstimate(() => now);
  const bytesPerMs = 125_000;
  const roundTripMs = 20;
  const allowed: number[] = [];
  for (let round = 0; round < 20; round++) {
    // Whatever is allowed is under way at once, in requests of half of it.
    const bytes = link.bytesAheadMax / 2;
    const transfers = [link.begin(), link.begin()];
    now += roundTripMs;
    for (const transfer of transfers) {
      transfer.arrived(1);
      now += bytes / bytesPerMs;
      transfer.arrived(bytes - 1);
      transfer.end();
    }
    allowed.push(link.bytesAheadMax);
  }
  const product = bytesPerMs * roundTripMs;
  // Fractions of milliseconds add up.
  expect(link.roundTripMs).toBeCloseTo(roundTripMs, 9);
  expect(allowed.at(-1)! / product).toBeGreaterThan(1);
  expect(allowed.at(-1)! / product).toBeLessThanOrEqual(3);
});

test("what old requests saw is forgotten", () => {
  let now = 0;
  const link = new LinkEstimate(() => now);
  const request = (ms: number) => {
    const transfer = link.begin();
    now += ms;
    transfer.arrived(1000);
    now += 1;
    transfer.end();
  };
  request(1);
  expect(link.roundTripMs).toBe(1);
  for (let i = 0; i < 16; i++) request(80);
  expect(link.roundTripMs).toBe(80);
});
