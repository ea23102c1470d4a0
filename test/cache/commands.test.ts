/** `skim cache` and the limits as a user meets them: the command line, mount servers of its own, an image in a layout. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { beforeAll, beforeEach, expect, test } from "vitest";
import type { CacheReport } from "../../src/mount/cache-report.js";
import { type TestImage, writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const MiB = 1024 * 1024;
const contents = { "base/file": randomBytes(3 * MiB), "top/file": randomBytes(2 * MiB) };
let layout: string;
let image: TestImage;
let host: SkimHost;

beforeAll(async () => {
  layout = path.join(await makeTempDir("cache-image"), "image");
  image = await writeTestImage(
    layout,
    Object.entries(contents).map(([name, content]) => ({ tar: buildTar([{ path: name, content }]) })),
  );
});
beforeEach(async () => {
  host = await makeSkimHost();
});

const source = () => `oci:${layout}`;

/** Mounts the image, reads all of it and compares, does `during`, and unmounts. */
async function withMount(
  args: readonly string[],
  during: (directory: string) => Promise<void> = async () => {},
) {
  const directory = await makeTempDir("mnt");
  // What is read again comes from the disk, or from the registry.
  const env = { SKIM_MEMORY_CACHE_BYTES: "0" };
  await host.ok(["mount", source(), directory, "--span-size", "65536", ...args], { env });
  try {
    await readAll(directory);
    await during(directory);
  } finally {
    await host.ok(["umount", directory]);
  }
}

async function readAll(directory: string): Promise<void> {
  for (const [name, content] of Object.entries(contents)) {
    const options = { encoding: "buffer" as const, maxBuffer: 8 * MiB };
    // Past the page cache of the mount.
    const { stdout } = await exec(
      "dd",
      [`if=${path.join(directory, name)}`, "iflag=direct", "bs=64K", "status=none"],
      options,
    );
    expect(stdout.equals(content)).toBe(true);
  }
}

const list = async () => await host.json<CacheReport & Record<string, unknown>>(["cache", "ls"]);
const layerOf = (report: CacheReport, digest: string, kind = "spans") =>
  report.layers.find((layer) => layer.digest === digest && layer.kind === kind);

test("ls shows what is there, who uses it and who pins it", async () => {
  await withMount(["--id", "one"], async () => {
    await host.ok(["cache", "pin", image.layerDigests[1]!]);
    const report = await list();
    const base = layerOf(report, image.layerDigests[0]!)!;
    expect(base).toMatchObject({ inUse: true, mounts: ["one"], pinnedBy: [] });
    expect(base.diskBytes).toBeGreaterThan(3 * MiB);
    expect(layerOf(report, image.layerDigests[1]!)).toMatchObject({
      mounts: ["one"],
      pinnedBy: [image.layerDigests[1]],
    });
    expect(report.archives.files).toBe(1);
    expect(report.layerIndexes.files).toBe(2);
    expect(await host.ok(["cache", "ls"])).toContain("one");
  });
  const after = layerOf(await list(), image.layerDigests[0]!)!;
  expect(after).toMatchObject({ inUse: false, mounts: [] });
  expect(after.spansPresent).toBe(after.spanCount);
  await host.ok(["unpack", source(), path.join(await makeTempDir("unpacked"), "root")]);
  expect((await list()).layers.filter(({ kind }) => kind === "extracted")).toHaveLength(2);
});

test("gc makes room: a dry run changes nothing, pinned layers stay, the next mount fetches again", async () => {
  await withMount([]);
  await host.ok(["unpack", source(), path.join(await makeTempDir("unpacked"), "root")]);
  await host.ok(["cache", "pin", source()]);
  expect(await host.ok(["cache", "gc", "--to", "0", "--dry-run"])).toContain("what is left is pinned");
  await host.ok(["cache", "gc", "--to", "0"]);
  expect((await list()).layers).toHaveLength(4);
  await host.ok(["cache", "unpin", source()]);
  expect(await host.run(["cache", "unpin", source()])).toMatchObject({
    code: 3,
    stderr: expect.stringContaining("NOT_FOUND"),
  });
  const planned = await host.json(["cache", "gc", "--to", "0", "--dry-run"]);
  expect(planned).toMatchObject({ dryRun: true, usedBytes: 0 });
  expect((await list()).layers).toHaveLength(4);
  expect(await host.json(["cache", "gc", "--to", "0"])).toMatchObject({
    usedBytes: 0,
    layers: planned.layers,
  });
  expect((await list()).layers).toEqual([]);
  await withMount([]);
  await host.ok(["unpack", source(), path.join(await makeTempDir("unpacked"), "root")]);
});

test("pins survive, and pin every layer of an image by its name, its manifest's digest or a layer's", async () => {
  await withMount([]);
  for (const name of [source(), image.manifestDigest, image.layerDigests[0]!])
    await host.ok(["cache", "pin", name]);
  const [base, top] = image.layerDigests.map((digest) => digest);
  const report = await list();
  expect(layerOf(report, base!)!.pinnedBy).toEqual([source(), image.manifestDigest, base].sort());
  expect(layerOf(report, top!)!.pinnedBy).toEqual([source(), image.manifestDigest].sort());
  expect(await host.run(["cache", "pin", `sha256:${"0".repeat(64)}`])).toMatchObject({ code: 3 });
  const pins = path.join(host.cacheDir, "pins");
  writeFileSync(path.join(pins, readdirSync(pins)[0]!), "{");
  // Not taken for no pin.
  expect(await host.run(["cache", "gc", "--to", "0"])).toMatchObject({
    code: 12,
    stderr: expect.stringContaining("pin"),
  });
  expect((await list().catch(() => undefined))?.layers).toBeUndefined();
});

test("verify finds what was flipped, drops it, says so by its exit code, and what reads next is right", async () => {
  await withMount([]);
  await host.ok(["unpack", source(), path.join(await makeTempDir("unpacked"), "root")]);
  expect(await host.json(["cache", "verify"])).toMatchObject({ damaged: 0, layers: { length: 4 } });
  const before = (await list()).layers;
  const layers = path.join(host.cacheDir, "layers");
  const damaged = readdirSync(layers, { recursive: true, encoding: "utf8" })
    .map((name) => path.join(layers, name))
    .filter((name) => /\/(data-[0-9a-f]+|0)$/.test(name));
  expect(damaged).toHaveLength(4);
  for (const file of damaged) {
    const bytes = readFileSync(file);
    bytes[100_000]! ^= 4;
    writeFileSync(file, bytes, { flag: "r+" });
  }
  const one = await host.run(["cache", "verify", image.layerDigests[0]!, "--json"]);
  expect(one).toMatchObject({ code: 6, stderr: expect.stringContaining("DIGEST_MISMATCH") });
  expect(JSON.parse(one.stdout)).toMatchObject({ damaged: 1, layers: { length: 1 } });
  const all = await host.run(["cache", "verify", "--json"]);
  expect([all.code, JSON.parse(all.stdout).damaged]).toEqual([6, 3]);
  const after = await list();
  // Checking is not using.
  expect(after.layers.map(({ lastUsedAt }) => lastUsedAt)).toEqual(
    before.filter(({ kind }) => kind === "spans").map(({ lastUsedAt }) => lastUsedAt),
  );
  expect((await host.json(["cache", "verify"])).damaged).toBe(0);
  expect(await host.run(["cache", "verify", `sha256:${"0".repeat(64)}`])).toMatchObject({ code: 3 });
  await withMount([]);
});

test("a mount keeps to its limit while it reads more than that, and so does unpacking", async () => {
  const limit = ["--cache-bytes-max", "1MiB"];
  await withMount(limit, async (directory) => {
    for (let turn = 0; turn < 3; turn++) await readAll(directory);
    // A look comes after each 1/64 of the limit, of what is written; two of these and spans under way may be on top.
    await expect.poll(async () => (await list()).usedBytes, { timeout: 20_000 }).toBeLessThan(1.5 * MiB);
    await readAll(directory);
  });
  expect((await list()).usedBytes).toBeLessThanOrEqual(MiB);
  await host.ok(["unpack", source(), path.join(await makeTempDir("unpacked"), "root"), ...limit]);
  expect((await list()).usedBytes).toBeLessThanOrEqual(MiB);
}, 60_000);

test("an image that does not fit the limit is not called complete", async () => {
  const warm = ["cache", "warm", source(), "--span-size", "65536"];
  const refused = await host.run([...warm, "--cache-bytes-max", "1MiB"]);
  expect(refused).toMatchObject({ code: 12, stdout: "" });
  expect(refused.stderr).toMatch(/^skim: LOCAL_IO: filling the cache: it does not take all of the image/m);
  expect((await list()).usedBytes).toBeLessThanOrEqual(MiB);
  expect(await host.ok(warm)).toMatch(/is complete/);
}, 30_000);

test("gc makes room below mounts: two servers let go of what it takes, and read on", async () => {
  const second = await makeTempDir("mnt");
  await withMount(["--id", "first"], async (directory) => {
    await host.ok(["mount", source(), second, "--span-size", "65536"]);
    await readAll(second);
    const report = await host.json<{ spans: { digest: string }[]; waitingBytes: number }>([
      "cache",
      "gc",
      "--to",
      "1MiB",
    ]);
    expect(report).toMatchObject({
      layers: [],
      waitingBytes: 0,
    });
    expect(report.spans.map(({ digest }) => digest).sort()).toEqual([...image.layerDigests].sort());
    expect((await list()).usedBytes).toBeLessThanOrEqual(MiB);
    await Promise.all([readAll(directory), readAll(second)]);
    await host.ok(["umount", second]);
  });
}, 60_000);

test("a disk that others need is not written to, and reads go on without it", async () => {
  await withMount(["--cache-free-bytes-min", "100%"], async (directory) => {
    await readAll(directory);
  });
  await host.ok(["cache", "gc", "--cache-free-bytes-min", "100%"]);
  expect((await list()).layers).toEqual([]);
});

test("a cache that is deleted below a mount does not matter to its readers", async () => {
  await withMount([], async (directory) => {
    await rm(path.join(host.cacheDir, "layers"), { recursive: true });
    await readAll(directory);
    await host.ok(["cache", "gc"]);
    await readAll(directory);
    // Until the server lets go of the deleted files it reads from them.
    const isThereAgain = async () => {
      await readAll(directory);
      return existsSync(path.join(host.cacheDir, "layers"));
    };
    await expect.poll(isThereAgain, { timeout: 20_000 }).toBe(true);
  });
});
