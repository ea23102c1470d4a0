import { expect, test } from "vitest";
import { planRuns } from "../../src/content/fetch-plan.js";

/** One layer whose spans have these restarts and 10 compressed bytes each. */
function layerOf(restarts: readonly number[], spanFirst = 0) {
  const layer = {
    digest: "sha256:0" as never,
    compression: "gzip" as const,
    compressedBytes: restarts.length * 10,
    uncompressedBytes: restarts.length * 100,
    spanFirst,
    spanCount: restarts.length,
  };
  const span = (index: number) => ({
    uncompressedOffset: (index - spanFirst) * 100,
    uncompressedLength: 100,
    // A layer behind this one begins with a restart point, but must not be looked at.
    restart: restarts[index - spanFirst] ?? 0,
    startBit: 0,
    compressedStart: (index - spanFirst) * 10,
    compressedEnd: (index - spanFirst + 1) * 10,
    windowOffset: 0,
    windowStored: 0,
    windowLength: 0,
    sha256: new Uint8Array(32),
  });
  const restartSpan = (index: number) => {
    while (span(index).restart === 0) index--;
    return index;
  };
  const unused = () => {
    throw new Error("not needed for planning");
  };
  const archive = {
    layers: [layer],
    span,
    restartSpan,
    spanRecords: unused,
    spanIndexAt: unused,
    window: unused,
  };
  return (spans: readonly number[], bytesMax?: number) =>
    planRuns(archive, layer, spans, bytesMax).map((run) => [run.start, run.end, run.toNextRestart]);
}

test("neighbours are one run, others are not", () => {
  const plan = layerOf([1, 2, 2, 2, 2, 2, 2]);
  expect(plan([])).toEqual([]);
  expect(plan([3])).toEqual([[3, 4, false]]);
  expect(plan([1, 2, 3, 5, 6])).toEqual([
    [1, 4, false],
    [5, 7, false],
  ]);
});

test("a run is cut where it grows beyond the limit of a request", () => {
  const plan = layerOf([1, 2, 2, 2, 2, 2, 2]);
  expect(plan([0, 1, 2, 3, 4, 5, 6], 30)).toEqual([
    [0, 3, false],
    [3, 6, false],
    [6, 7, false],
  ]);
});

test("a span without restart point is reached from the last one, and takes all spans to the next with it", () => {
  const plan = layerOf([1, 2, 0, 0, 2, 0, 2], 100);
  expect(plan([102])).toEqual([[101, 104, true]]);
  expect(plan([101])).toEqual([[101, 104, true]]);
  expect(plan([105])).toEqual([[104, 106, true]]);
  expect(plan([106])).toEqual([[106, 107, false]]);
  expect(plan([100, 103, 104, 106])).toEqual([[100, 107, true]]);
  // No place to cut within.
  expect(plan([101, 103], 10)).toEqual([[101, 104, true]]);
});

test("a layer with one restart point is one run", () => {
  const plan = layerOf([1, 0, 0, 0], 7);
  expect(plan([9])).toEqual([[7, 11, true]]);
  expect(plan([7, 10])).toEqual([[7, 11, true]]);
});
