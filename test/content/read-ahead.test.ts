import { expect, test } from "vitest";
import type { ContentLayer } from "../../src/content/content-archive.js";
import { ReadAhead } from "../../src/content/read-ahead.js";
import { digestOf } from "../../src/image/digest.js";

const layer: ContentLayer = {
  digest: digestOf(Buffer.from("a layer")),
  compression: "gzip",
  compressedBytes: 1,
  uncompressedBytes: 1,
  spanFirst: 100,
  spanCount: 100,
};

function reader(readAhead = new ReadAhead()) {
  return (span: number, firstWindow = 0) => {
    const { start, end } = readAhead.touched({ first: span, last: span }, layer, firstWindow);
    return end - start;
  };
}

test("a reader that goes on gets a window that grows, without a gap and without asking twice", () => {
  const readAhead = new ReadAhead();
  const asked: number[] = [];
  for (let span = 100; span < 200; span++) {
    const { start, end } = readAhead.touched({ first: span, last: span }, layer, 0);
    for (let one = start; one < end; one++) asked.push(one);
    if (span > 101 && span < 199) expect(asked.at(-1)!).toBeGreaterThan(span);
  }
  expect(asked).toEqual(Array.from({ length: 98 }, (_, i) => 102 + i));
});

test("readers that jump get nothing ahead, unless the link is idle meanwhile", () => {
  const touch = reader();
  expect([120, 180, 110, 150, 130].map((span) => touch(span))).toEqual([0, 0, 0, 0, 0]);
  expect(touch(190, 3)).toBe(3);
});

test("a seek begins anew; what was read ahead before is used up when its reader comes back", () => {
  const touch = reader();
  for (const span of [100, 101, 102, 103]) touch(span);
  expect(touch(170)).toBe(0);
  expect(touch(171)).toBe(2);
  expect(touch(104)).toBeGreaterThan(2);
});

test("two readers are told apart", () => {
  const touch = reader();
  for (const span of [100, 150, 101, 151]) touch(span);
  expect([touch(102), touch(152)]).toEqual([3, 3]);
});

test("a read that is long is one touch: it says nothing of the next one", () => {
  const readAhead = new ReadAhead();
  expect(readAhead.touched({ first: 100, last: 105 }, layer, 0)).toEqual({
    start: 106,
    end: 106,
    isContinued: false,
  });
  expect(readAhead.touched({ first: 106, last: 108 }, layer, 0)).toEqual({
    start: 109,
    end: 111,
    isContinued: true,
  });
});
