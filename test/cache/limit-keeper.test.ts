import { expect, test } from "vitest";
import { silentLogger } from "../../src/base/logger.js";
import type { EvictionReport, EvictionRun } from "../../src/cache/evictor.js";
import { LimitKeeper } from "../../src/cache/limit-keeper.js";

const report = (fields: Partial<EvictionReport> = {}): EvictionReport => ({
  usedBytesBefore: 0,
  usedBytes: 0,
  bytesMax: 6400,
  freeBytes: 1e9,
  freeBytesMin: 0,
  layers: [],
  spans: [],
  waitingBytes: 0,
  leftovers: 0,
  ...fields,
});

/** A keeper whose looks end when the test says so. */
function makeKeeper(outcome: EvictionReport | undefined | Error = report()) {
  const runs: EvictionRun[] = [];
  const ends: (() => void)[] = [];
  let noRoom = 0;
  const keeper = new LimitKeeper({
    evictor: {
      run: async (run = {}) => {
        runs.push(run);
        await new Promise<void>((resolve) => ends.push(resolve));
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
    },
    logger: silentLogger,
    bytesMax: 6400,
    onNoRoom: () => noRoom++,
  });
  return { keeper, runs, end: () => ends.shift()!(), noRoom: () => noRoom };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a look comes when 1/64 of the limit was written, one at a time, and again for what came meanwhile", async () => {
  const { keeper, runs, end } = makeKeeper();
  keeper.wrote(99, false);
  expect(runs).toHaveLength(0);
  keeper.wrote(1, false);
  expect(runs).toHaveLength(1);
  expect(keeper.mayWrite).toBe(true);
  keeper.wrote(60, false);
  keeper.wrote(60, false);
  expect(runs).toHaveLength(1);
  expect(keeper.mayWrite).toBe(false);
  end();
  await turn();
  expect(runs).toHaveLength(2);
  expect(keeper.mayWrite).toBe(true);
  end();
  await turn();
  expect(runs).toHaveLength(2);
});

test("a full disk is looked at at once", () => {
  const { keeper, runs } = makeKeeper();
  keeper.wrote(0, true);
  expect(runs).toHaveLength(1);
});

test.each([
  ["what is left cannot go", report({ usedBytes: 6401 }), 1],
  ["others need the disk", report({ freeBytes: 9, freeBytesMin: 10 }), 1],
  ["what is too much waits for its readers", report({ usedBytes: 7000, waitingBytes: 600 }), 0],
  ["all is well", report({ usedBytes: 6400 }), 0],
  ["another process evicts", undefined, 0],
  ["the look fails", new Error("EIO"), 0],
])("%s: writing stops where it must", async (_, outcome, expected) => {
  const { keeper, end, noRoom } = makeKeeper(outcome);
  const look = keeper.look();
  end();
  await look;
  expect(noRoom()).toBe(expected);
});

test("closing ends the waiting for readers and has a last look, which waits for nobody, where something was written", async () => {
  const { keeper, runs, end } = makeKeeper();
  const look = keeper.look();
  keeper.wrote(5, false);
  const closed = keeper.close();
  expect(runs[0]!.signal!.aborted).toBe(true);
  end();
  await look;
  await turn();
  expect(runs[1]).toEqual({ graceMs: 0 });
  end();
  await closed;
  await keeper.close();
  expect(runs).toHaveLength(2);
});
