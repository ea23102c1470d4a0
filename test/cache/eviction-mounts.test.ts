/**
 * Eviction below mounts: several servers on one cache directory, readers that compare every byte, and somebody who evicts all the time. Reads are direct
 * (O_DIRECT), so that each of them asks a server, which splices verified spans from the cache file without another look.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { directory, file } from "../archive/sample-archive.js";
import { endServers, FuseServer, makeImage, type Run, run } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";
import { makeEvictor } from "./eviction-place.js";

const MiB = 1024 * 1024;
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "close");
  }
  await endServers();
});

/** Reads a file at random places until another file comes, and compares; prints how many reads were right, or ends with 1 at the first that is not. */
const readRandomly = `
import mmap, os, random, sys
truth = open(sys.argv[2], "rb").read()
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
turn = 0
while turn < 20 or not os.path.exists(sys.argv[3]):
    turn += 1
    at = random.randrange(len(truth) // 4096) * 4096
    length = random.choice([4096, 65536, 131072, 524288, 1 << 20])
    got = os.preadv(fd, [memoryview(buffer)[:length]], at)
    if buffer[:got] != truth[at:at + length]:
        zeros = buffer[:got].count(0)
        sys.exit(f"read {turn} at {at}: {got} of {length} bytes, {zeros} zeros: not what it should be")
print(turn)`;

async function makeServers(count: number, layerBytes: number, releaseStaleEveryMs: number) {
  const dir = await makeTempDir("evicted");
  const layer = randomBytes(layerBytes);
  const truthFile = path.join(dir, "truth");
  writeFileSync(truthFile, layer);
  const image = await makeImage(dir, directory({ whole: file(0, layer.length) }), layer);
  const cacheDir = path.join(dir, "cache");
  const servers: FuseServer[] = [];
  for (let i = 0; i < count; i++) {
    const mountpoint = path.join(dir, `mount${i}`);
    await mkdir(mountpoint);
    servers.push(await FuseServer.mount({ ...image, mountpoint, cacheDir, releaseStaleEveryMs }));
  }
  const over = path.join(dir, "over");
  const read = (server: FuseServer) =>
    run("python3", ["-c", readRandomly, path.join(server.mountpoint, "whole"), truthFile, over]);
  const endReading = () => writeFileSync(over, "");
  return { cacheDir, servers, read, endReading };
}

async function expectAllRight(reads: Promise<Run[]>): Promise<void> {
  for (const { code, stderr } of await reads) expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
}

test("readers of three servers get the right bytes while spans are evicted below them all the time", async () => {
  const { cacheDir, servers, read, endReading } = await makeServers(3, 24 * MiB, 10);
  const reads = Promise.all(servers.flatMap((server) => [read(server), read(server)]));
  let evicted = 0;
  for (let turn = 0; evicted < 150; turn++) {
    const report = await makeEvictor(cacheDir, 0, { graceMs: 5_000 }).run({
      bytesMax: ((turn * 5) % 20) * MiB,
    });
    for (const { spans } of report?.spans ?? []) evicted += spans;
  }
  endReading();
  await expectAllRight(reads);
  let fromDisk = 0;
  for (const server of servers) {
    const { served } = await server.send("stats");
    fromDisk += served.disk_spans_total;
    await server.close();
  }
  expect(fromDisk).toBeGreaterThan(100);
}, 180_000);

test("whoever evicts may be killed at any moment", async () => {
  const { cacheDir, servers, read, endReading } = await makeServers(2, 16 * MiB, 10);
  const reads = Promise.all(servers.flatMap((server) => [read(server), read(server)]));
  for (let kills = 0; kills < 10; kills++) {
    const script = path.join(import.meta.dirname, "evictor-process.mjs");
    const child = spawn(process.execPath, [script, cacheDir, String(3 * MiB)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    // In its second eviction, or later.
    await once(child.stdout!, "data");
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
    child.kill("SIGKILL");
    await once(child, "close");
  }
  endReading();
  await expectAllRight(reads);
  for (const server of servers) await server.close();
  // What they left is finished by one that lives.
  await makeEvictor(cacheDir, 1e12).run({ thorough: true });
  const names = await readdir(cacheDir, { recursive: true });
  expect(names.filter((name) => path.basename(name).startsWith("retired-"))).toEqual([]);
}, 180_000);

test("a server that is stopped keeps its bytes, and lets go of them when it goes on", async () => {
  const { cacheDir, servers, read, endReading } = await makeServers(2, 4 * MiB, 10);
  endReading();
  const [running, stopped] = servers as [FuseServer, FuseServer];
  for (const server of servers) expect((await read(server)).code).toBe(0);
  stopped.signal("SIGSTOP");
  const evictor = makeEvictor(cacheDir, 0, { graceMs: 500 });
  const data = (await readdir(cacheDir, { recursive: true })).find((name) =>
    path.basename(name).startsWith("data-"),
  )!;
  const { blocks } = statSync(path.join(cacheDir, data));
  expect(blocks).toBeGreaterThan(0);
  expect(await evictor.run()).toMatchObject({ spans: [], waitingBytes: blocks * 512 });
  expect(await evictor.run()).toMatchObject({ spans: [], waitingBytes: blocks * 512 });
  expect(statSync(path.join(cacheDir, data)).blocks).toBe(blocks);
  // The other one has gone on, and fetches again.
  expect((await read(running)).code).toBe(0);
  stopped.signal("SIGCONT");
  await expect.poll(async () => (await evictor.run())?.waitingBytes, { timeout: 10_000 }).toBe(0);
  for (const server of servers) {
    expect((await read(server)).code).toBe(0);
    await server.close();
  }
}, 60_000);

test("a server that was killed holds nothing up", async () => {
  const { cacheDir, servers, read, endReading } = await makeServers(2, 4 * MiB, 10);
  endReading();
  const [running, killed] = servers as [FuseServer, FuseServer];
  for (const server of servers) expect((await read(server)).code).toBe(0);
  await killed.kill();
  const report = await makeEvictor(cacheDir, 0, { graceMs: 10_000 }).run();
  expect(report).toMatchObject({ waitingBytes: 0 });
  expect((await read(running)).code).toBe(0);
  await running.close();
  await killed.destroy();
});
