import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";
import { makeEvictor } from "./eviction-place.js";

interface Outcome {
  readonly loaded: number;
  readonly wrong: number;
  readonly failed: number;
}

const spanBytes = 128 * 1024;

/** A process that reads spans in random order, and writes those that are not there. */
function startReader(cacheDir: string, truthFile: string, end: number | string) {
  const script = path.join(import.meta.dirname, "cache-process.mjs");
  const args = [script, cacheDir, truthFile, String(spanBytes), String(end)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  return {
    child,
    // Listened for from the start: it may be up before anybody waits.
    started: once(child.stdout, "data"),
    closed: once(child, "close"),
    outcome: () => JSON.parse(output.split("\n")[1]!) as Outcome,
  };
}

test("processes that share a directory read each other's spans, also while others are killed in the middle of writing", async () => {
  const dir = await makeTempDir("cache");
  const truthFile = path.join(dir, "truth");
  writeFileSync(truthFile, randomBytes(60 * spanBytes + 5));
  const start = () => startReader(path.join(dir, "cache"), truthFile, 400);
  const killed = [start(), start()];
  for (const { child, started } of killed) {
    await started;
    child.kill("SIGKILL");
  }
  const workers = [start(), start()];
  await Promise.all([...killed, ...workers].map(({ closed }) => closed));
  let loaded = 0;
  for (const worker of workers) {
    const outcome = worker.outcome();
    expect(outcome).toMatchObject({ wrong: 0, failed: 0 });
    loaded += outcome.loaded;
  }
  // 61 spans are written at most twice (both at once); all the rest of 800 rounds was read.
  expect(loaded).toBeGreaterThanOrEqual(800 - 2 * 61);
});

test("processes that read and write while spans are evicted all the time are never given anything but the truth", async () => {
  const dir = await makeTempDir("cache");
  const cacheDir = path.join(dir, "cache");
  const truthFile = path.join(dir, "truth");
  writeFileSync(truthFile, randomBytes(30 * spanBytes + 5));
  const over = path.join(dir, "over");
  const readers = Array.from({ length: 3 }, () => startReader(cacheDir, truthFile, over));
  await Promise.all(readers.map(({ started }) => started));
  let evicted = 0;
  for (let turn = 0; evicted < 100; turn++) {
    const evictor = makeEvictor(cacheDir, 0, { graceMs: 2_000 });
    const report = await evictor.run({ bytesMax: ((turn * 7) % 30) * spanBytes });
    for (const { spans } of report?.spans ?? []) evicted += spans;
  }
  writeFileSync(over, "");
  await Promise.all(readers.map(({ closed }) => closed));
  for (const reader of readers) {
    expect(reader.outcome()).toMatchObject({ wrong: 0, failed: 0 });
    expect(reader.outcome().loaded).toBeGreaterThan(0);
  }
}, 120_000);
