import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { MountStats } from "../../src/mount/mount-stats.js";
import type { RanImage } from "../../src/mount/run-image.js";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const files = ["a", "b", "c", "d", "e", "f"];

/** A container that reads some of its image's files, each several spans long, and what is fetched for that, when. */
describe("what a start needs, fetched ahead", () => {
  let dir: string;
  let host: SkimHost;
  let registry: EmbeddedRegistry;
  let image: string;

  beforeAll(async () => {
    dir = await makeTempDir("ahead");
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...["sh", "cat", "sha256sum"].map((name) => ({
        path: `bin/${name}`,
        type: "hardlink" as const,
        link: "bin/busybox",
      })),
      ...files.map((name) => ({ path: name, content: randomBytes(400_000) })),
    ]);
    const layout = path.join(dir, "image");
    await writeTestImage(layout, [{ tar }], {
      config: { Cmd: ["sh", "-c", "cat /a /c"], Env: ["PATH=/bin"] },
    });
    registry = await startEmbeddedRegistry({ layout });
    image = `${registry.host}/image:latest`;
    host = await makeSkimHost();
    await host.ok(["index", image, "--span-size", "65536"]);
  });

  afterAll(async () => await registry.close());

  beforeEach(async () => {
    await rm(path.join(host.cacheDir, "layers"), { recursive: true, force: true });
    await rm(path.join(host.cacheDir, "profiles"), { recursive: true, force: true });
  });

  const spans = ["--span-size", "65536"];

  async function start(options: string[], command: string[] = []): Promise<MountStats> {
    const file = path.join(dir, "stats.json");
    const ran = await host.run(["run", ...spans, ...options, "--stats", file, image, "--", ...command]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    return (JSON.parse(await readFile(file, "utf8")) as RanImage).stats!;
  }

  it("is recorded, and the next start finds it on its way: the same bytes, and fewer requests", async () => {
    const recorded = await start(["--prefetch", "none", "--record-profile"]);
    // Spans that are neighbours share a byte of the blob, which is fetched once where one request brings both.
    const needed = recorded.content.touched_bytes_total!;
    const spanCount = recorded.content.touched_spans_total!;
    expect(recorded.content.fetched_bytes_total!).toBeLessThanOrEqual(needed);
    expect(recorded.content.fetched_bytes_total!).toBeGreaterThanOrEqual(needed - spanCount);
    await rm(path.join(host.cacheDir, "layers"), { recursive: true });
    const replayed = await start([]);
    expect(replayed.replayed).toMatchObject({ from: "profile", spans: recorded.content.touched_spans_total });
    expect(replayed.content.fetched_bytes_total!).toBeLessThanOrEqual(needed);
    expect(replayed.content.fetch_requests_total!).toBeLessThan(recorded.content.fetch_requests_total!);
    expect(replayed.content.prefetched_spans_total!).toBeGreaterThan(0);
  });

  it("is recorded for a command that stays longer than its start is interesting, when it ends", async () => {
    await host.ok(["profile", "record", ...spans, image, "--", "sh", "-c", "cat /b >/dev/null; sleep 1"]);
    const { profiles } = await host.json<{
      profiles: { command: string[]; runs: number; reads: object[] }[];
    }>(["profile", "show", image]);
    expect(profiles).toMatchObject([{ command: ["sh", "-c", "cat /b >/dev/null; sleep 1"], runs: 1 }]);
    expect(profiles[0]!.reads.length).toBeGreaterThan(6);
  });

  it("can be exported, forgotten, and imported again", async () => {
    const file = path.join(dir, "profile.json");
    await host.ok(["profile", "record", ...spans, image]);
    await host.ok(["profile", "export", image, "-o", file]);
    await host.ok(["profile", "rm", image]);
    expect(await host.ok(["profile", "show", image])).toMatch(/nothing recorded/);
    expect(await host.run(["profile", "export", image])).toMatchObject({ code: 3, stdout: "" });
    await host.ok(["profile", "import", image, file]);
    expect((await start([])).replayed.from).toBe("profile");
    await writeFile(file, "{}");
    const refused = await host.run(["profile", "import", image, file]);
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toMatch(/^skim: USAGE: .*profile\.json is no start profile/);
  });

  it("is found out where nothing is recorded: for the image's own command when it is indexed, for another one when it starts", async () => {
    const { startSpans } = await host.json<{ startSpans: number }>(["index", image, ...spans]);
    expect(startSpans).toBeGreaterThan(0);
    const own = await start([]);
    expect(own.replayed).toMatchObject({ from: "start-set", spans: startSpans });
    expect(own.content.prefetched_spans_total!).toBeGreaterThan(0);
    await rm(path.join(host.cacheDir, "layers"), { recursive: true });
    const other = await start([], ["sha256sum", "/f"]);
    expect(other.replayed.from).toBe("start-set");
    expect(other.replayed.spans).toBeGreaterThan(0);
    await host.ok(["profile", "record", ...spans, image]);
    expect((await start(["--prefetch", "start-set"])).replayed.from).toBe("start-set");
  });

  it("is not recorded, nor replayed, unless asked for", async () => {
    await start([]);
    expect(await readdir(host.cacheDir)).not.toContain("profiles");
    await host.ok(["profile", "record", ...spans, image]);
    expect((await start(["--prefetch", "none"])).replayed).toEqual({ from: "nothing", spans: 0 });
  });

  it("a profile that is damaged costs nothing but its use", async () => {
    await host.ok(["profile", "record", ...spans, image]);
    const profiles = path.join(host.cacheDir, "profiles/sha256");
    const [name] = await readdir(profiles);
    await writeFile(path.join(profiles, name!), "{ torn");
    expect((await start([])).replayed.from).toBe("start-set");
  });

  it("skim cache warm brings all of an image; then its registry is not needed", async () => {
    const warmed = await host.json(["cache", "warm", image, ...spans]);
    // By digest: a tag is looked up in its registry, as it may have moved.
    image = `${image}@${warmed.manifestDigest}`;
    expect(warmed).toMatchObject({ presentSpans: warmed.spans, fetchedBytes: warmed.compressedBytes });
    const before = registry.counters.requests;
    const stats = await start([], ["sh", "-c", `sha256sum ${files.map((name) => `/${name}`).join(" ")}`]);
    expect(stats).toMatchObject({ complete: true, registry: { requests: 0 } });
    expect(registry.counters.requests).toBe(before);
    expect(await host.json(["cache", "warm", image, ...spans])).toMatchObject({ fetchedBytes: 0 });
  });

  it.each([["idle"], ["100MB"]])(
    "a mount fills the rest in the background (%s), and says when it is complete",
    async (how) => {
      const { lower } = await host.json<{ lower: string }>([
        ...["rootfs", "mount", image, "--id", `filled-${how}`, ...spans, "--background-fill", how],
      ]);
      await exec("cat", [path.join(lower, "d")], { encoding: "buffer", maxBuffer: 1 << 30 });
      await expect
        .poll(
          async () =>
            (await host.json<MountStats & Record<string, unknown>>(["stats", `filled-${how}`])).complete,
          {
            timeout: 20_000,
            interval: 200,
          },
        )
        .toBe(true);
      const log = await readFile(path.join(host.runDir, `logs/filled-${how}.log`), "utf8");
      expect(log).toMatch(/image is complete/);
      expect(await host.ok(["stats", `filled-${how}`])).toMatch(/^cached .*, complete$/m);
      await host.ok(["rootfs", "umount", `filled-${how}`]);
      expect(await host.leftovers()).toEqual([]);
    },
  );

  it("refuses a rate that is none", async () => {
    expect(await host.run(["run", "--background-fill", "fast", image])).toMatchObject({ code: 125 });
    expect(await host.run(["run", "--prefetch", "all", image])).toMatchObject({ code: 125 });
  });
});
