import { expect, test } from "vitest";
import { MemoryCache } from "../../src/cache/memory-cache.js";

test("the spans used last are kept, up to the limit in bytes", () => {
  const cache = new MemoryCache(3000).part();
  for (const span of [1, 2, 3]) cache.set(span, new Uint8Array(1000));
  cache.get(1);
  cache.set(4, new Uint8Array(1000));
  expect([1, 2, 3, 4].filter((span) => cache.get(span))).toEqual([1, 3, 4]);
});

test("a span that does not fit, or a limit of 0, keeps nothing", () => {
  const cache = new MemoryCache(1000).part();
  cache.set(1, new Uint8Array(1001));
  expect(cache.get(1)).toBeUndefined();
  const none = new MemoryCache(0).part();
  none.set(1, new Uint8Array(1));
  expect(none.get(1)).toBeUndefined();
});

test("keeps the spans of several archives apart, within one limit", () => {
  const cache = new MemoryCache(2000);
  const [one, other] = [cache.part(), cache.part()];
  one.set(7, new Uint8Array(900));
  other.set(7, Uint8Array.of(1));
  expect([one.get(7)?.length, other.get(7)?.length]).toEqual([900, 1]);
  other.set(8, new Uint8Array(1500));
  expect(one.get(7)).toBeUndefined();
  other.clear();
  one.set(7, Uint8Array.of(2));
  expect([one.get(7)?.length, other.get(7), other.get(8)]).toEqual([1, undefined, undefined]);
});
