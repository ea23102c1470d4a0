import { spawn } from "node:child_process";
import { open, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cliFile, makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxArchive, modes, startContainerOf, type TestContainer } from "./busybox-container.js";

/** A minute a runtime, and 4 GiB of disk: with scripts/test.sh --long. */
const isLong = process.env.SKIM_TEST_LONG !== undefined;
const fileBytes = 2 * 2 ** 30;
const memoryBytesMax = 64 * 2 ** 20;

describe.skipIf(!isLong).each(modes.filter(([name]) => name !== "crun"))("2 GiB, %s", (_, options) => {
  let host: SkimHost;
  let box: TestContainer;
  let dir: string;

  beforeAll(async () => {
    dir = await makeTempDir("large");
    host = await makeSkimHost();
    box = await startContainerOf(host, await busyboxArchive(host), options);
  });

  afterAll(async () => {
    await box.end();
  });

  test("goes in and comes out with less than 64 MiB of memory more than looking at a file takes", async () => {
    const source = path.join(dir, "source");
    const file = await open(source, "w");
    await file.truncate(fileBytes);
    await file.write("end", fileBytes - 3);
    await file.close();
    const idle = await peakBytes(host, ["fs", "stat", `${box.id}:/etc/passwd`]);
    const into = await peakBytes(host, ["cp", source, `${box.id}:/work/large`]);
    await rm(source);
    expect(await box.sh("stat -c %s /work/large; cat /work/large | wc -c")).toBe(
      `${fileBytes}\n${fileBytes}\n`,
    );
    const out = path.join(dir, "out");
    const outOf = await peakBytes(host, ["cp", `${box.id}:/work/large`, out]);
    expect((await stat(out)).size).toBe(fileBytes);
    const copy = await open(out);
    expect((await copy.read(Buffer.alloc(3), 0, 3, fileBytes - 3)).buffer.toString()).toBe("end");
    await copy.close();
    const more = { into: into - idle, outOf: outOf - idle };
    if (process.env.SKIM_TEST_FIGURES) console.log(more, idle);
    expect(more.into).toBeLessThan(memoryBytesMax);
    expect(more.outOf).toBeLessThan(memoryBytesMax);
  }, 600_000);
});

/** The most memory that a command had resident (VmHWM), bytes. */
async function peakBytes(host: SkimHost, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [cliFile, ...args], {
    env: host.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (piece) => {
    said += piece;
  });
  let peak = 0;
  const timer = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, "utf8").catch(() => "");
    peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024);
  }, 20);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearInterval(timer);
  expect([code, said]).toEqual([0, ""]);
  return peak;
}
