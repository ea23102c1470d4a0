import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StartMoments } from "../../src/base/start-marks.js";
import type { FinishedWait } from "../../src/content/finished-waits.js";
import type { ServerStart } from "../../src/mount/mount-observation.js";
import { explainStart, type StartReport } from "../../src/mount/start-report.js";

const marks: StartMoments = {
  begun: 1000,
  searching: 1080,
  resolved: 1081,
  opened: 1090,
  launched: 1095,
  ready: 1150,
  overlaid: 1160,
  started: 1170,
};
const serverMarks: StartMoments = { told: 1100, serverOpened: 1120, mounted: 1140 };

function wait(beganMs: number, ms: number, network = 0, inflate = 0, queue = 0): FinishedWait {
  return { span: 0, source: "network", beganMs, ms, networkMs: network, inflateMs: inflate, queueMs: queue };
}

function serverStart(given: Partial<ServerStart>): ServerStart {
  const nothing = { readMoments: [], waits: [], isComplete: true, waitingSinceMs: [] };
  return { ...nothing, marks: serverMarks, nowMs: 100_000, ...given };
}

function partsOf({ parts }: StartReport): Record<string, number> {
  return Object.fromEntries(parts.filter(({ ms }) => ms > 0).map(({ name, ms }) => [name, ms]));
}

describe("where a start went", () => {
  test("each part lies between its marks, and waits take what lies below them", () => {
    const waits = [wait(1300, 100, 60, 20, 10), wait(1450, 50, 50)];
    const report = explainStart({
      start: serverStart({ readMoments: [1250], waits }),
      marks,
      windowMs: 10_000,
    });
    expect(report.totalMs).toBe(500);
    expect(partsOf(report)).toEqual({
      load: 80,
      resolve: 1,
      index: 9,
      mount: 60,
      overlay: 10,
      bundle: 10,
      runtime: 80,
      network: 110,
      inflate: 20,
      queue: 10,
      cache: expect.closeTo(10, 9),
      other: 100,
    });
    expect(report.waits).toEqual({
      count: 2,
      fromNetwork: 2,
      sumMs: 150,
      unionMs: expect.closeTo(150, 9),
      networkMs: 110,
      inflateMs: 20,
      queueMs: 10,
      restMs: 10,
    });
    expect(report.marks.at(0)).toEqual({ name: "begun", ms: 0 });
    expect(report.marks.at(-1)).toEqual({ name: "lastMiss", ms: 500 });
  });

  test("who waits at the same time shares it: the sum is larger than the time that passed", () => {
    const waits = [wait(1300, 100, 100), wait(1300, 100, 0, 100), wait(1350, 100, 100)];
    const report = explainStart({
      start: serverStart({ readMoments: [1300], waits }),
      marks,
      windowMs: 10_000,
    });
    expect(report.waits).toMatchObject({ sumMs: 300, unionMs: expect.closeTo(150, 9) });
    const { network, inflate } = partsOf(report);
    expect(network).toBeCloseTo(25 + (50 * 2) / 3 + 50, 9);
    expect(inflate).toBeCloseTo(25 + 50 / 3, 9);
  });

  test("what is waited for behind the window is none of the start", () => {
    const waits = [wait(1300, 100, 100), wait(3000, 100, 100)];
    const report = explainStart({
      start: serverStart({ readMoments: [1300], waits }),
      marks,
      windowMs: 1000,
    });
    expect(report.totalMs).toBe(400);
    expect(report.waits.count).toBe(1);
  });

  test("who reads while the container is prepared is not taken for its first read", () => {
    const start = serverStart({ readMoments: [1155, 1400], waits: [wait(1155, 2, 2), wait(1400, 10, 10)] });
    const parts = partsOf(explainStart({ start, marks, windowMs: 10_000 }));
    expect(parts).toMatchObject({ overlay: 8, runtime: 230, network: 12 });
  });

  test("a mount that nobody uses yet has started when it was ready, and later is looked at from its first read on", () => {
    const { started: _, overlaid: __, ...mountMarks } = marks;
    const unused = explainStart({ start: serverStart({}), marks: mountMarks, windowMs: 1000 });
    expect(unused.totalMs).toBe(150);
    const waits = [wait(51_000, 100, 100)];
    const used = explainStart({
      start: serverStart({ readMoments: [51_000], waits }),
      marks: mountMarks,
      windowMs: 1000,
    });
    expect(partsOf(used)).toMatchObject({ unused: 49_850, network: 100 });
  });

  test("who waits still counts as waiting, until now", () => {
    const start = serverStart({ readMoments: [1300], waitingSinceMs: [1300], nowMs: 5300 });
    const report = explainStart({ start, marks, windowMs: 10_000 });
    expect(partsOf(report)).toMatchObject({ unfinished: 4000 });
    expect(report.totalMs).toBe(4300);
  });

  test("whatever happened, the parts add up", () => {
    const waits = fc.array(
      fc
        .tuple(fc.nat(3000), fc.nat(500), fc.nat(100), fc.nat(100), fc.nat(100))
        .map(([began, ms, a, b, c]) => {
          const scale = a + b + c > 0 ? ms / (a + b + c) : 0;
          return wait(900 + began, ms, a * scale * 0.9, b * scale * 0.9, c * scale * 0.9);
        }),
      { maxLength: 30 },
    );
    const moments = fc.array(fc.nat(3000), { maxLength: 5 }).map((list) => list.sort((a, b) => a - b));
    fc.assert(
      fc.property(waits, moments, moments, fc.nat(3000), (some, readMoments, waitingSinceMs, windowMs) => {
        const start = serverStart({ readMoments, waits: some, waitingSinceMs, nowMs: 5000 });
        const report = explainStart({ start, marks, windowMs });
        const sum = report.parts.reduce((total, { ms }) => total + ms, 0);
        expect(sum).toBeCloseTo(report.totalMs, 6);
        for (const { ms } of report.parts) expect(ms).toBeGreaterThanOrEqual(-1e-9);
        const { sumMs, networkMs, inflateMs, queueMs, restMs } = report.waits;
        expect(networkMs + inflateMs + queueMs + restMs).toBeCloseTo(sumMs, 6);
      }),
    );
  });
});
