import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { makeTempDir } from "../support/temp-dir.js";

interface Outcome {
  readonly loaded: number;
  readonly wrong: number;
  readonly failed: number;
}

test("processes that share a directory read each other's spans, also while others are killed in the middle of writing", async () => {
  const dir = await makeTempDir("cache");
  const truthFile = path.join(dir, "truth");
  const spanBytes = 128 * 1024;
  writeFileSync(truthFile, randomBytes(60 * spanBytes + 5));
  const start = () => {
    const script = path.join(import.meta.dirname, "cache-process.mjs");
    const args = [script, path.join(dir, "cache"), truthFile, String(spanBytes)];
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
  };
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
