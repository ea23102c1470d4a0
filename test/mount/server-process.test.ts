import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { takeServerProcess } from "../../src/mount/server-process.js";
import { eventually } from "../support/daemon-host.js";

const unit = readFileSync(path.resolve(import.meta.dirname, "../../scripts/host/skim.service"), "utf8");

/** GLIBC_TUNABLES of the process once it runs its own program. */
async function tunablesOfServer(): Promise<string> {
  const server = takeServerProcess();
  try {
    return await eventually("it runs its program", () => {
      const words = readFileSync(`/proc/${server.pid}/cmdline`, "utf8");
      if (!words.includes("mount-server.js")) return undefined;
      // glibc has ended each of them with a zero.
      const environment = readFileSync(`/proc/${server.pid}/environ`, "utf8");
      return /\0GLIBC_TUNABLES=((?:glibc[^\0]*\0)+)/
        .exec(`\0${environment}`)?.[1]
        ?.slice(0, -1)
        .replaceAll("\0", ":");
    });
  } finally {
    const ended = once(server, "exit");
    server.kill("SIGKILL");
    await ended;
  }
}

describe("the process that becomes a mount server", () => {
  afterEach(() => vi.unstubAllEnvs());

  it("has malloc set as the daemon's unit sets it", async () => {
    vi.stubEnv("GLIBC_TUNABLES", undefined);
    const tunables = await tunablesOfServer();
    expect(tunables).toMatch(/hugetlb/);
    expect(unit).toContain(`Environment=GLIBC_TUNABLES=${tunables}\n`);
  });

  it("has what the user set behind that, where it counts", async () => {
    vi.stubEnv("GLIBC_TUNABLES", "glibc.malloc.arena_max=7");
    const tunables = await tunablesOfServer();
    expect(tunables).toMatch(/hugetlb=1:.*:glibc\.malloc\.arena_max=7$/);
  });
});
