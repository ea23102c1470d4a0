/** Whatever becomes of the cache directory, before a mount or below it: its readers get the right bytes, and the cache is whole again afterwards. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MAP_HEADER_BYTES } from "../../src/cache/presence-map.js";
import { SpanLayers } from "../../src/cache/span-layers.js";
import { loadNative } from "../../src/native/load.js";
import { directory, file } from "../archive/sample-archive.js";
import { endServers, FuseServer, makeImage, run } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";
import { makeEvictor } from "./eviction-place.js";

const MiB = 1024 * 1024;
const spanCount = 5;
const layer = randomBytes((spanCount - 1) * MiB + 12_345);

let dir: string;
let cacheDir: string;
let image: { archive: string; layers: string[]; mountpoint: string };
const mounted: string[] = [];

beforeEach(async () => {
  dir = await makeTempDir("damaged");
  cacheDir = path.join(dir, "cache");
  image = await makeImage(dir, directory({ whole: file(0, layer.length) }), layer);
  writeFileSync(path.join(dir, "truth"), layer);
});
afterEach(async () => {
  await endServers();
  for (const where of mounted.splice(0)) execFileSync("umount", ["-l", where]);
});

const mount = (options: { mountpoint?: string; releaseStaleEveryMs?: number } = {}) =>
  FuseServer.mount({ ...image, cacheDir, ...options });

/** Compares all of it, past the page cache of the mount. */
async function expectRight(server: FuseServer): Promise<void> {
  const name = path.join(server.mountpoint, "whole");
  const script = `dd if="$1" bs=1M iflag=direct status=none | cmp - "$2"`;
  const { code, stdout, stderr } = await run("sh", ["-c", script, "sh", name, path.join(dir, "truth")]);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "", stderr: "" });
}

/** Spans that were asked of the registry. */
const broughtBy = async (server: FuseServer): Promise<number> =>
  (await server.send("stats")).content.network_spans_total;

/** Mounts, reads, unmounts. Resolves to the number of spans that were fetched. */
async function readOnce(): Promise<number> {
  const server = await mount();
  await expectRight(server);
  const brought = await broughtBy(server);
  await server.close();
  return brought;
}

function fileIn(prefix: string): string {
  const names = readdirSync(cacheDir, { recursive: true, encoding: "utf8" });
  return path.join(cacheDir, names.find((name) => path.basename(name).startsWith(prefix))!);
}

function change(prefix: string, how: (bytes: Buffer) => void): void {
  const bytes = readFileSync(fileIn(prefix));
  how(bytes);
  writeFileSync(fileIn(prefix), bytes, { flag: "r+" });
}

/** [what is done, how, how many of the spans must be fetched again] */
const damages: [string, () => void, number][] = [
  [
    "a bit flipped in each span",
    () =>
      change("data-", (bytes) => {
        for (let at = 9; at < bytes.length; at += MiB) bytes[at]! ^= 1;
      }),
    5,
  ],
  [
    "the last byte flipped",
    () =>
      change("data-", (bytes) => {
        bytes[bytes.length - 1]! ^= 128;
      }),
    1,
  ],
  [
    "two spans zeroed that are said to be there, as after a crash",
    () => change("data-", (bytes) => void bytes.fill(0, MiB, 3 * MiB)),
    2,
  ],
  ["a page torn", () => change("data-", (bytes) => void bytes.fill(0, MiB + 4096, MiB + 8192)), 1],
  ["the data cut off", () => truncateSync(fileIn("data-"), 2 * MiB), 5],
  ["the data emptied", () => truncateSync(fileIn("data-"), 0), 5],
  ["the data grown", () => truncateSync(fileIn("data-"), 99 * MiB), 5],
  ["the data deleted", () => rmSync(fileIn("data-")), 5],
  ["the map deleted", () => rmSync(fileIn("spans-")), 5],
  ["the map emptied", () => truncateSync(fileIn("spans-"), 0), 5],
  ["the map cut off", () => truncateSync(fileIn("spans-"), MAP_HEADER_BYTES + 2), 5],
  ["the map's header overwritten", () => change("spans-", (bytes) => void randomBytes(16).copy(bytes)), 5],
  [
    "one span said to be absent",
    () =>
      change("spans-", (bytes) => {
        bytes[MAP_HEADER_BYTES] = 0;
      }),
    1,
  ],
  [
    "spans in states that there are none of",
    () => change("spans-", (bytes) => void bytes.fill(77, MAP_HEADER_BYTES, MAP_HEADER_BYTES + 3)),
    3,
  ],
  [
    "the map's table overwritten",
    () => change("spans-", (bytes) => void bytes.fill(1, bytes.length - 40)),
    0,
  ],
  [
    "a link in place of the data",
    () => {
      const name = fileIn("data-");
      rmSync(name);
      symlinkSync("/dev/zero", name);
    },
    5,
  ],
  ["everything deleted", () => rmSync(cacheDir, { recursive: true }), 5],
];

describe("before a mount", () => {
  test.each(damages)("%s", async (_, damage, fetchedAgain) => {
    expect(await readOnce()).toBe(spanCount);
    expect(await readOnce()).toBe(0);
    damage();
    expect(await readOnce()).toBe(fetchedAgain);
    expect(await readOnce()).toBe(0);
  });
});

describe("below a mount, with another one that comes afterwards", () => {
  // What is changed in place under a reader that has verified it is the owner's own doing; what is cut off or taken away must not matter.
  const names = ["deleted", "cut off", "emptied", "grown", "absent", "states", "table"];
  test.each(damages.filter(([what]) => names.some((name) => what.includes(name))))(
    "%s",
    async (_, damage) => {
      const first = await mount({ releaseStaleEveryMs: 20 });
      await expectRight(first);
      damage();
      await expectRight(first);
      const mountpoint = path.join(dir, "second");
      await mkdir(mountpoint);
      const second = await mount({ mountpoint });
      await expectRight(second);
      await expectRight(first);
      await makeEvictor(cacheDir, 1e9).run({ thorough: true });
      await Promise.all([expectRight(first), expectRight(second)]);
      await first.close();
      await second.close();
      expect(await readOnce()).toBeLessThanOrEqual(spanCount);
      expect(await readOnce()).toBe(0);
    },
  );
});

test("spans that are said to be evicted, of an eviction that nobody knows of, are cached again after the next look", async () => {
  await readOnce();
  change("spans-", (bytes) => {
    bytes[MAP_HEADER_BYTES + 1] = 2;
  });
  // Once for each read of it, as with anything that is kept nowhere.
  expect(await readOnce()).toBeGreaterThan(0);
  expect(await readOnce()).toBeGreaterThan(0);
  await makeEvictor(cacheDir, 1e9).run({ thorough: true });
  expect(await readOnce()).toBe(spanCount);
  expect(await readOnce()).toBe(0);
});

test("servers that are killed while they write leave nothing that a later one believes", async () => {
  for (let turn = 0; turn < 8; turn++) {
    const mountpoint = path.join(dir, `mount${turn}`);
    await mkdir(mountpoint);
    const server = await mount({ mountpoint });
    const reading = run("cat", [path.join(mountpoint, "whole")]);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
    await server.destroy();
    await reading;
    if (turn % 2) rmSync(cacheDir, { recursive: true, force: true });
  }
  await readOnce();
  expect(await readOnce()).toBe(0);
}, 60_000);

async function mountTmpfs(size: string): Promise<void> {
  await mkdir(cacheDir);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=0700`, "none", cacheDir]);
  mounted.push(cacheDir);
}

test("a full disk: reads go on, what fits is kept, and room that is made is used", async () => {
  await mountTmpfs("2500k");
  const server = await mount();
  await expectRight(server);
  await expectRight(server);
  const { served } = await server.send("stats");
  expect(served.disk_spans_total).toBeGreaterThan(0);
  await server.close();
  execFileSync("mount", ["-o", "remount,size=16m", cacheDir]);
  await readOnce();
  expect(await readOnce()).toBe(0);
});

test("a disk full to the last block: not even the files can be made", async () => {
  await mountTmpfs("64k");
  execFileSync("sh", ["-c", `head -c 1m /dev/zero > "${cacheDir}/ballast" 2>/dev/null || true`]);
  const server = await mount();
  await expectRight(server);
  await expectRight(server);
  await server.close();
});

test("a disk full to the last byte is made room on below a mount that has all of it in use", async () => {
  await mountTmpfs("16m");
  const server = await mount({ releaseStaleEveryMs: 20 });
  await expectRight(server);
  execFileSync("sh", ["-c", `head -c 99m /dev/zero > "${cacheDir}/ballast" 2>/dev/null || true`]);
  expect(statfsSync(cacheDir).bavail).toBe(0);
  const report = await makeEvictor(cacheDir, 0).run();
  expect(report!.spans).toHaveLength(1);
  await expect.poll(() => statfsSync(cacheDir).bavail).toBeGreaterThan(0);
  await expectRight(server);
  await server.close();
});

test("a disk that became read-only is read, whole layers and parts", async () => {
  await mountTmpfs("16m");
  await readOnce();
  change("spans-", (bytes) => {
    bytes[MAP_HEADER_BYTES + 2] = 0;
  });
  execFileSync("mount", ["-o", "remount,ro", cacheDir]);
  expect(await readOnce()).toBeGreaterThan(0);
  expect(await new SpanLayers(cacheDir, loadNative()).list()).toMatchObject([
    { inUse: false, spansPresent: 4 },
  ]);
  // Evicting says why it cannot.
  await expect(makeEvictor(cacheDir, 0).run()).rejects.toMatchObject({ code: "EROFS" });
  execFileSync("mount", ["-o", "remount,rw", cacheDir]);
  await readOnce();
  expect(await readOnce()).toBe(0);
});

test("a disk that becomes read-only below a mount, as ext4 does when it finds an error", async () => {
  const disk = path.join(dir, "disk");
  execFileSync("truncate", ["-s", "32M", disk]);
  execFileSync("mkfs.ext4", ["-q", disk]);
  await mkdir(cacheDir);
  execFileSync("mount", ["-o", "loop,errors=remount-ro", disk, cacheDir]);
  mounted.push(cacheDir);
  const server = await mount();
  const first = await run("head", ["-c", String(MiB), path.join(server.mountpoint, "whole")]);
  expect(first.stdout.length).toBe(MiB);
  const device = execFileSync("findmnt", ["-no", "SOURCE", cacheDir]).toString().trim();
  writeFileSync(`/sys/fs/ext4/${path.basename(device)}/trigger_fs_error`, "test");
  expect(() => writeFileSync(path.join(cacheDir, "file"), "")).toThrow(/EROFS/);
  await expectRight(server);
  await expectRight(server);
  await server.close();
});
