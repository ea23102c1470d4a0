import { expect, test } from "vitest";
import { ReadAhead } from "../../src/layer/read-ahead.js";

const bytes = (...values: number[]) => Uint8Array.from(values);
const turn = () => new Promise(setImmediate);

test("pieces that came while nobody looked are handed over joined, and no more are pulled than may wait", async () => {
  let pulled = 0;
  const input = new ReadAhead(
    (async function* () {
      for (;;) yield bytes(pulled++ % 256);
    })(),
    10,
  );
  await turn();
  expect(pulled).toBe(10);
  expect(await input.next()).toEqual(Buffer.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
  await turn();
  expect(pulled).toBe(20);
  await input.close();
});

test("a source's empty pieces are no end, and its end is one for good", async () => {
  const source = async function* () {
    yield bytes();
    await turn();
    yield bytes(1);
    yield bytes();
  };
  const input = new ReadAhead(source(), 100);
  expect(await input.next()).toEqual(bytes(1));
  expect(await input.next()).toBeUndefined();
  expect(await input.next()).toBeUndefined();
});

test("an error of the source comes behind the bytes before it", async () => {
  const broken = new Error("broken");
  const source = async function* () {
    yield bytes(1);
    throw broken;
  };
  const input = new ReadAhead(source(), 100);
  await turn();
  expect(await input.next()).toEqual(bytes(1));
  await expect(input.next()).rejects.toBe(broken);
});

test("closing ends a source that is idle at once, and does not wait for one that is busy", async () => {
  const ended: string[] = [];
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const source = async function* (name: string, before: Promise<unknown>) {
    try {
      for (;;) {
        await before;
        yield bytes(1);
      }
    } finally {
      ended.push(name);
    }
  };
  const idle = new ReadAhead(source("idle", Promise.resolve()), 1);
  const busy = new ReadAhead(source("busy", gate), 1);
  await turn();
  await idle.close();
  expect(ended).toEqual(["idle"]);
  await busy.close();
  expect(ended).toEqual(["idle"]);
  go();
  await turn();
  expect(ended).toEqual(["idle", "busy"]);
});
