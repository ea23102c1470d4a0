import { expect, test } from "vitest";
import { MemoryCache } from "../../src/cache/memory-cache.js";

test("the spans used last are kept, up to the limit in bytes", () => {
  const cache = new MemoryCache(3000);
  for (const span of [1, 2, 3]) cache.set(span, new Uint8Array(1000));
  cache.get(1);
  cache.set(4, new Uint8Array(1000));
  expect([1, 2, 3, 4].filter((span) => cache.get(span))).toEqual([1, 3, 4]);
});

test("a span that does not fit, or a limit of 0, keeps nothing", () => {
  const cache = new MemoryCache(1000);
  cache.set(1, new Uint8Array(1001));
  expect(cache.get(1)).toBeUndefined();
  const none = new MemoryCache(0);
  none.set(1, new Uint8Array(1));
  expect(none.get(1)).toBeUndefined();
});
