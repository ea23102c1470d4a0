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
/** All that is resident, node's own 39 MiB included. */
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

  test("goes in and comes out with less than 64 MiB of memory in all, of the command and of skim-files", async () => {
    const source = path.join(dir, "source");
    const file = await open(source, "w");
    await file.truncate(fileBytes);
    await file.write("end", fileBytes - 3);
    await file.close();
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
    if (process.env.SKIM_TEST_FIGURES) console.log({ into, outOf });
    expect(into.command + into.helper).toBeLessThan(memoryBytesMax);
    expect(outOf.command + outOf.helper).toBeLessThan(memoryBytesMax);
    expect(outOf.command).toBeGreaterThan(2 ** 24);
  }, 600_000);
});

/** The most memory that a command, and skim-files where it is its child, had resident (VmHWM), bytes; what a runtime takes is its own. */
async function peakBytes(host: SkimHost, args: readonly string[]) {
  const child = spawn(process.execPath, [cliFile, ...args], {
    env: host.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (piece) => {
    said += piece;
  });
  const peak = { command: 0, helper: 0, runtime: 0 };
  const timer = setInterval(async () => {
    peak.command = Math.max(peak.command, (await peakOf(child.pid!)).bytes);
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").catch(() => "");
    for (const pid of children.split(" ").filter(Boolean)) {
      const { name, bytes } = await peakOf(Number(pid));
      const kind = name === "skim-files" ? "helper" : "runtime";
      peak[kind] = Math.max(peak[kind], bytes);
    }
  }, 20);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearInterval(timer);
  expect([code, said]).toEqual([0, ""]);
  return peak;
}

async function peakOf(pid: number) {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return {
    name: /^Name:\s+(.*)/m.exec(status)?.[1],
    bytes: Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024,
  };
}
