import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ExplainedStart, MountInFull } from "../../src/mount/explain-mount.js";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { FakeRegistry } from "../support/fake-registry.js";
import { faults } from "../support/network-faults.js";
import { writeTestImage } from "../support/oci-layout.js";
import { cliFile, makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);

/** Real mounts of one image, looked at from outside. */
describe("what is seen of a mount", () => {
  let host: SkimHost;
  let registry: EmbeddedRegistry;
  let mirror: FakeRegistry;
  let archive: string;

  beforeAll(async () => {
    host = await makeSkimHost();
    const dir = await makeTempDir("observation");
    const layout = path.join(dir, "image");
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...["sh", "cat", "sleep"].map((name) => ({
        path: `bin/${name}`,
        type: "hardlink" as const,
        link: "bin/busybox",
      })),
      { path: "srv/", type: "directory" },
      { path: "srv/large", content: randomBytes(1_500_000) },
      { path: "srv/small", content: "small\n" },
    ]);
    await writeTestImage(layout, [{ tar }]);
    registry = await startEmbeddedRegistry({ layout });
    mirror = await FakeRegistry.start();
    archive = path.join(dir, "image.skim");
    await host.ok(["index", `${registry.host}/app`, "--span-size", "65536", "-o", archive]);
    // What indexing has left must not be there already.
    await host.ok(["cache", "gc", "--to", "0"]);
  });

  afterAll(async () => {
    await registry.close();
    await mirror.close();
  });

  async function mount(id: string, options: string[] = [], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const directory = await makeTempDir("observed");
    await host.ok(["mount", archive, directory, "--id", id, "--prefetch", "none", ...options], { env });
    return directory;
  }

  /** A mirror that says nothing is waited for as long as a test takes. */
  const patient = {
    SKIM_MIRROR_TIMEOUT_MS: "600000",
    SKIM_ATTEMPT_TIMEOUT_MS: "600000",
    SKIM_READ_DEADLINE_MS: "3600000",
  };

  const mirrored = () => ["--mirror", `${registry.host}=${mirror.url}`];

  it("stats: what was fetched and from where, the slowest spans with their files, and the mirrors", async () => {
    const directory = await mount("seen", mirrored());
    try {
      await exec("cat", [path.join(directory, "srv/large")], { encoding: "buffer", maxBuffer: 1e7 });
      const stats = await host.json<MountInFull & Record<string, unknown>>(["stats", "seen"]);
      const misses = stats.landed.network.counts.reduce((sum, count) => sum + count, 0);
      expect(misses).toBeGreaterThan(10);
      expect(stats.content.network_spans_total).toBe(misses);
      expect(stats.slowest.length).toBe(Math.min(20, misses));
      const { file, networkMs, inflateMs, queueMs, ms } = stats.slowest[0]!;
      expect(file).toMatchObject({ path: "/srv/large" });
      expect(networkMs + inflateMs + queueMs).toBeLessThanOrEqual(ms);
      expect(stats.mirrors).toMatchObject([{ name: mirror.host, state: "in use", missingBlobs: 1 }]);
      expect(stats.content.retries_total).toBeGreaterThan(0);
      expect([stats.waiting, stats.inFlight]).toEqual([0, []]);
      const text = await host.ok(["stats", "seen"]);
      expect(text).toMatch(/^fetched +1\.\d+ MB in \d+ requests, \d+\.\d % of the image$/m);
      expect(text).toMatch(/^requests .*read \d+/m);
      expect(text).toMatch(new RegExp(`^ {2}${mirror.host} +in use +1 blobs missing$`, "m"));
      expect(text).toMatch(/network +\/srv\/large/);
    } finally {
      await host.ok(["umount", directory]);
    }
  });

  it("stats: who waits now and for whom, and --why counts it as waiting still", async () => {
    mirror.script.add({ on: "blob", fault: faults.silence(), times: Number.POSITIVE_INFINITY });
    await host.ok(["cache", "gc", "--to", "0"]);
    const directory = await mount("held", mirrored(), patient);
    const reader = spawn("cat", [path.join(directory, "srv/small")], { stdio: "ignore" });
    try {
      const look = () => host.json<MountInFull & Record<string, unknown>>(["stats", "held"]);
      await expect
        .poll(async () => (await look()).inFlight, { timeout: 20_000 })
        .toMatchObject([
          { host: mirror.host, attempt: 1, arrivedBytes: 0, phase: "network", urgency: "demand" },
        ]);
      const stats = await look();
      expect(stats.waiting).toBe(1);
      expect(stats.waitingLongest).toMatchObject([{ file: { path: expect.stringMatching(/^\/srv\//) } }]);
      expect(await host.ok(["stats", "held"])).toMatch(new RegExp(`1 readers .*${mirror.host}`));
      const why = await host.json<ExplainedStart & Record<string, unknown>>(["stats", "held", "--why"]);
      expect(why.parts.find(({ name }) => name === "unfinished")!.ms).toBeGreaterThan(0);
    } finally {
      reader.kill("SIGKILL");
      await host.ok(["umount", directory, "--force"]);
      mirror.script.clear();
    }
  });

  it("stats --why: the parts of a run's start add up, and its marks come in their order", async () => {
    await host.ok(["cache", "gc", "--to", "0"]);
    const running = host.start([
      "run",
      "--id",
      "why",
      archive,
      "--",
      "sh",
      "-c",
      "cat /srv/large | cat; exec sleep 600",
    ]);
    const ended = resultOf(running);
    try {
      const read = async () => {
        const { code, stdout } = await host.run(["stats", "why", "--why", "--json"]);
        return code === 0 ? (JSON.parse(stdout) as ExplainedStart) : undefined;
      };
      const names = async () => (await read())?.marks.map(({ name }) => name);
      await expect
        .poll(names, { timeout: 30_000 })
        .toEqual([
          "begun",
          "searching",
          "resolved",
          "opened",
          "launched",
          "told",
          "serverOpened",
          "mounted",
          "ready",
          "overlaid",
          "started",
          "firstRead",
          "lastMiss",
        ]);
      const why = (await read())!;
      expect(why).toMatchObject({ id: "why", kind: "run", isComplete: true });
      expect(why.parts.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(why.totalMs, 3);
      const ofPart = Object.fromEntries(why.parts.map(({ name, ms }) => [name, ms]));
      for (const name of ["load", "mount", "overlay", "runtime", "network", "inflate"])
        expect(ofPart[name], name).toBeGreaterThan(0);
      expect(why.waits.fromNetwork).toBeGreaterThan(0);
      expect(await host.ok(["stats", "why", "--why"])).toMatch(/^total +\d+\.\d ms$/m);
    } finally {
      await host.run(["rootfs", "umount", "why", "--force"]);
      await ended;
    }
  });

  it("stats --why: a rootfs that nobody has read from has only its marks", async () => {
    await host.ok(["rootfs", "mount", archive, "--id", "unread"]);
    try {
      const why = await host.json<ExplainedStart & Record<string, unknown>>(["stats", "unread", "--why"]);
      expect(why.marks.map(({ name }) => name)).toEqual(expect.arrayContaining(["ready", "overlaid"]));
      expect(why.waits.count).toBe(0);
      expect(why.parts.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(why.totalMs, 3);
      expect(await host.ok(["stats", "unread", "--why"])).toMatch(/nobody has read anything yet/);
    } finally {
      await host.ok(["rootfs", "umount", "unread"]);
    }
    const gone = await host.run(["stats", "unread", "--why"]);
    expect(gone).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/no mount with id unread/),
    });
  });

  describe("top", () => {
    let directory: string;

    beforeAll(async () => {
      directory = await mount("topped");
    });

    afterAll(async () => {
      await host.ok(["umount", directory]);
    });

    it("prints one table and ends where there is no terminal", async () => {
      const lines = (await host.ok(["top", "--interval", "0.1"])).trimEnd().split("\n");
      expect(lines).toHaveLength(2);
      expect(lines[0]).toMatch(
        /^ID +STATE +READS\/S +SERVED +FETCHED +HITS +WAITING +IN FLIGHT +PRESENT +IMAGE$/,
      );
      expect(lines[1]).toMatch(/^topped +serving .* \d+\.\d % +127\.0\.0\.1:\d+\/app/);
    });

    it("prints a line of JSON for each look, with what happened since the one before", async () => {
      const top = host.start(["top", "--json", "--iterations", "4", "--interval", "0.3"]);
      const looking = resultOf(top);
      await once(top.stdout!, "data");
      await exec("cat", [path.join(directory, "srv/large")], { encoding: "buffer", maxBuffer: 1e7 });
      const { code, stdout } = await looking;
      expect(code).toBe(0);
      const looks = stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).mounts);
      expect(looks).toHaveLength(4);
      for (const mounts of looks) expect(mounts).toMatchObject([{ id: "topped", state: "serving" }]);
      const served = looks.map(([{ servedBytesPerSecond }]) => servedBytesPerSecond as number);
      expect(Math.max(...served)).toBeGreaterThan(0);
    });

    it.each([
      ["q", "q"],
      ["Ctrl-C", "\u0003"],
    ])("on a terminal: draws until %s, and gives the terminal back", async (_, key) => {
      const command = `"${process.execPath}" "${cliFile}" top --interval 0.1`;
      const child = spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], {
        env: { ...host.env, TERM: "xterm" },
        stdio: ["pipe", "pipe", "inherit"],
      });
      let output = "";
      let hasTyped = false;
      child.stdin.on("error", () => {});
      child.stdout.setEncoding("utf8");
      child.stdout.on("data", (text: string) => {
        output += text;
        // Drawn twice: it is live.
        const isLive = output.split("\x1b[Hskim top").length > 2;
        if (isLive && !hasTyped) child.stdin.write(key);
        hasTyped = isLive;
      });
      const giveUp = setTimeout(() => child.kill(), 30_000);
      const [code] = await once(child, "close");
      clearTimeout(giveUp);
      expect(code).toBe(0);
      expect(output.startsWith("\x1b[?1049h\x1b[?25l")).toBe(true);
      expect(output).toContain("topped");
      expect(output.trimEnd().endsWith("\x1b[?25h\x1b[?1049l")).toBe(true);
    });

    it("shows a server that has died as dead", async () => {
      const doomed = await mount("doomed");
      const { pid } = (await host.json<{ id: string; pid: number }[]>(["ps"])).find(
        ({ id }) => id === "doomed",
      )!;
      process.kill(pid, "SIGKILL");
      try {
        await expect
          .poll(() => host.ok(["top", "--interval", "0.05"]), { timeout: 10_000 })
          .toMatch(/^doomed +dead +-/m);
      } finally {
        await host.run(["umount", doomed, "--force"]);
      }
    });
  });
});
