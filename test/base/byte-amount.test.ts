import { expect, test } from "vitest";
import { bytesOf, parseByteAmount } from "../../src/base/byte-amount.js";
import { resolveSettings } from "../../src/base/settings.js";

test.each([
  ["0", 0],
  ["1073741824", 2 ** 30],
  ["512B", 512],
  ["20GiB", 20 * 2 ** 30],
  ["20GB", 20e9],
  ["20G", 20 * 2 ** 30],
  ["1.5 tib", 1.5 * 2 ** 40],
  ["100kb", 100_000],
  ["25%", 250],
  ["0.5%", 5],
])("%s", (text, bytes) => {
  expect(bytesOf(parseByteAmount(text), 1000)).toBe(bytes);
});

test.each(["", "GiB", "-1", "1e9", "20XB", "101%", "10 20", "5GiBs", "NaN"])("%j is refused", (text) => {
  expect(() => parseByteAmount(text)).toThrow(expect.objectContaining({ code: "USAGE" }));
});

test("settings keep amounts as they were written, so that they can be handed on, and refuse what is none", () => {
  const settings = resolveSettings({ cacheBytesMax: "20GiB" }, { SKIM_CACHE_FREE_BYTES_MIN: "3%" });
  expect(settings).toMatchObject({ cacheBytesMax: "20GiB", cacheFreeBytesMin: "3%" });
  expect(resolveSettings(settings, {})).toEqual(settings);
  expect(resolveSettings({}, {})).toMatchObject({ cacheBytesMax: "50%" });
  expect(() => resolveSettings({ cacheBytesMax: "lots" }, {})).toThrow(
    /cacheBytesMax \(SKIM_CACHE_BYTES_MAX\)/,
  );
});
