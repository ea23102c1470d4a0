/** What only the native engine promises: reads without JavaScript, one fetch for many readers, readers that can be interrupted, and what it tells of itself. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { open, readdir, truncate } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { directory, file, node } from "../archive/sample-archive.js";
import { endServers, FuseServer, makeImage, run } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";

const MiB = 1024 * 1024;
const layer = randomBytes(8 * MiB);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

let dir = "";
let image: { archive: string; layers: string[]; mountpoint: string };
const children: ChildProcess[] = [];

beforeAll(async () => {
  dir = await makeTempDir("native-engine");
  image = await makeImage(
    dir,
    directory({
      whole: file(0, layer.length),
      ...Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`span${i}`, file(i * MiB, MiB)])),
      crossing: file(MiB - 5000, 10_000),
      pieces: node("file", {
        fileBytes: 4 * MiB,
        extents: [
          { fileOffset: 100, layerOffset: 5 * MiB - 1000, length: 2000 },
          { fileOffset: 3 * MiB, layerOffset: 77, length: MiB },
        ],
      }),
      sub: directory({ deep: directory({ file: file(0, 10) }) }),
    }),
    layer,
  );
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await endServers();
});

const inside = (name: string) => path.join(image.mountpoint, name);
const digestOf = async (name: string) => (await run("sha256sum", [inside(name)])).stdout.slice(0, 64);
const freshCache = () => makeTempDir("native-cache");

/** The data file of the only layer in a cache directory. */
async function dataFile(cacheDir: string): Promise<string> {
  const found = await readdir(cacheDir, { recursive: true });
  return path.join(cacheDir, found.find((name) => path.basename(name).startsWith("data-"))!);
}

/** Ends when the server's presence map is written: what was read is on disk then. */
async function readEverything(server: FuseServer): Promise<void> {
  expect(await digestOf("whole")).toBe(sha256(layer));
  await server.close();
}

async function untilWaiting(server: FuseServer, count: number): Promise<void> {
  for (let waiting = -1; waiting !== count; ) waiting = (await server.send("stats")).waiting;
}

describe("a span that is missing", () => {
  it("is brought once for many readers, and once for many reads of one reader", async () => {
    const server = await FuseServer.mount(image);
    await server.send("content", { kind: "hold", layerOffset: 0 });
    const readers = Array.from({ length: 8 }, (_, i) =>
      run("python3", ["-c", readAt, inside("span3"), String(i * 100_000), "50000"]),
    );
    await untilWaiting(server, 8);
    expect((await server.send("stats")).brought).toBe(1);
    await server.send("content", { kind: "serve" });
    for (const [i, { stdout }] of (await Promise.all(readers)).entries())
      expect(stdout).toBe(sha256(layer.subarray(3 * MiB + i * 100_000, 3 * MiB + i * 100_000 + 50_000)));
    await server.close();
  });

  it("that fails for one read is brought again for the next", async () => {
    const server = await FuseServer.mount(image);
    await server.send("content", { kind: "fail", code: "REGISTRY_UNAVAILABLE" });
    expect((await run("cat", [inside("span1")])).stderr).toContain("Input/output error");
    await server.send("content", { kind: "serve" });
    expect(await digestOf("span1")).toBe(sha256(layer.subarray(MiB, 2 * MiB)));
    await server.close();
  });

  it("and others with it make up one read, across extents and holes", async () => {
    const server = await FuseServer.mount(image);
    const pieces = Buffer.alloc(4 * MiB);
    layer.copy(pieces, 100, 5 * MiB - 1000, 5 * MiB + 1000);
    layer.copy(pieces, 3 * MiB, 77, 77 + MiB);
    expect(await digestOf("pieces")).toBe(sha256(pieces));
    expect(await digestOf("crossing")).toBe(sha256(layer.subarray(MiB - 5000, MiB + 5000)));
    await server.close();
  });
});

/** Prints the digest of `length` bytes at `offset`, read past the page cache: each read is one request that its reader waits for. */
const readAt = `
import hashlib, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
length = os.preadv(fd, [memoryview(buffer)[:int(sys.argv[3])]], int(sys.argv[2]))
print(hashlib.sha256(buffer[:length]).hexdigest(), end="")`;

describe("a reader that waits", () => {
  const waitingReader = (signalled: string) => `
import mmap, os, signal, sys
class Interrupted(Exception): pass
def interrupted(*_): raise Interrupted()
signal.signal(signal.SIGUSR1, interrupted)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
print("open", flush=True)
try: os.preadv(fd, [mmap.mmap(-1, 1 << 16)], 0); print("read", flush=True)
except Interrupted: print(${JSON.stringify(signalled)}, flush=True)`;

  async function startReader(name: string) {
    const child = spawn("python3", ["-c", waitingReader("interrupted"), inside(name)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe("open");
    const ended = once(child, "exit");
    return { child, ended, next: async () => (await lines.next()).value };
  }

  it("is let go by a signal with EINTR, and its span is not fetched any more", async () => {
    const server = await FuseServer.mount(image);
    await server.send("content", { kind: "hold", layerOffset: 0 });
    const reader = await startReader("span2");
    await untilWaiting(server, 1);
    reader.child.kill("SIGUSR1");
    expect(await reader.next()).toBe("interrupted");
    await untilWaiting(server, 0);
    await reader.ended;
    const { operations } = await server.send("stats");
    expect(operations.interrupt).toBeGreaterThanOrEqual(1);
    // The next reader is served as if nothing had been.
    await server.send("content", { kind: "serve" });
    expect(await digestOf("span2")).toBe(sha256(layer.subarray(2 * MiB, 3 * MiB)));
    await server.close();
  });

  it("takes no other with it that waits for the same span", async () => {
    const server = await FuseServer.mount(image);
    await server.send("content", { kind: "hold", layerOffset: 0 });
    const killed = await startReader("span4");
    const stays = await startReader("span4");
    await untilWaiting(server, 2);
    killed.child.kill("SIGKILL");
    await killed.ended;
    await untilWaiting(server, 1);
    await server.send("content", { kind: "serve" });
    expect(await stays.next()).toBe("read");
    await stays.ended;
    await server.close();
  });
});

describe("data in the cache", () => {
  it("is read by threads alone: metadata and cached bytes are served while JavaScript stands still", async () => {
    const cacheDir = await freshCache();
    await readEverything(await FuseServer.mount({ ...image, cacheDir }));
    const server = await FuseServer.mount({ ...image, cacheDir });
    // The cache files are open, and shown to the threads, once one span has been read.
    expect(await digestOf("span0")).toBe(sha256(layer.subarray(0, MiB)));
    let isStalled = true;
    const stall = server.send("stall", { ms: 20_000 }).then(() => {
      isStalled = false;
    });
    await untilLogged(server, "stalling");
    expect((await run("find", [image.mountpoint, "-printf", "."])).stdout).toHaveLength(15);
    expect(await digestOf("whole")).toBe(sha256(layer));
    expect((await run("stat", ["-c", "%s", inside("none")])).code).toBe(1);
    expect(isStalled).toBe(true);
    await server.destroy();
    await stall;
  });

  it("is verified before its first use: flipped bytes are found, fetched again, and never seen", async () => {
    const cacheDir = await freshCache();
    await readEverything(await FuseServer.mount({ ...image, cacheDir }));
    const data = await open(await dataFile(cacheDir), "r+");
    await data.write(Buffer.from([layer[5 * MiB + 17]! ^ 1]), 0, 1, 5 * MiB + 17);
    await data.close();
    const server = await FuseServer.mount({ ...image, cacheDir });
    expect(await digestOf("whole")).toBe(sha256(layer));
    expect((await server.send("stats")).content).toMatchObject({
      verification_failures_total: 1,
      fetch_requests_total: 1,
      network_spans_total: 1,
    });
    await server.close();
  });

  it("that is cut off under a mount is fetched again, and the reader does not notice", async () => {
    const cacheDir = await freshCache();
    const server = await FuseServer.mount({ ...image, cacheDir });
    expect(await digestOf("whole")).toBe(sha256(layer));
    await run("sh", ["-c", "echo 1 > /proc/sys/vm/drop_caches"]);
    await truncate(await dataFile(cacheDir), 1000);
    const source = `
import hashlib, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(hashlib.sha256(open(fd, "rb").read()).hexdigest(), end="")`;
    expect((await run("python3", ["-c", source, inside("whole")])).stdout).toBe(sha256(layer));
    await server.close();
  });

  it("is shared by two servers on one directory: what one has fetched the other finds", async () => {
    const cacheDir = await freshCache();
    const other = await makeImage(dir, directory({ whole: file(0, layer.length) }), layer, "other");
    const second = await FuseServer.mount({
      ...other,
      layers: image.layers,
      archive: other.archive,
      cacheDir,
    });
    await run("ls", [other.mountpoint]);
    const first = await FuseServer.mount({ ...other, mountpoint: image.mountpoint, cacheDir });
    expect(await digestOf("whole")).toBe(sha256(layer));
    await first.close();
    const { stdout } = await run("sha256sum", [path.join(other.mountpoint, "whole")]);
    expect(stdout.slice(0, 64)).toBe(sha256(layer));
    expect((await second.send("stats")).content.fetch_requests_total).toBe(0);
    await second.close();
  });
});

describe("what it tells of itself", () => {
  it("is one line for each operation, by name, when asked to", async () => {
    const server = await FuseServer.mount({ ...image, traceOperations: true });
    await run("stat", [inside("not there")]);
    await run("head", ["-c", "10", inside("span0")]);
    await run("ls", [inside("sub")]);
    expect(await server.send("unmount")).not.toHaveProperty("error");
    await server.exited;
    const lines = server.stderr.split("\n");
    expect(lines).toContainEqual(
      expect.stringMatching(/^fuse test image: lookup ino 1, "not there", pid \d+: 128 bytes, \d+ us$/),
    );
    expect(lines).toContainEqual(
      expect.stringMatching(/^fuse test image: read ino \d+, \d+ bytes at 0, pid \d+: \d+ bytes, \d+ us$/),
    );
    expect(lines).toContainEqual(
      expect.stringMatching(
        /^fuse test image: readdirplus ino \d+, \d+ bytes at 0, pid \d+: \d+ bytes, \d+ us$/,
      ),
    );
    expect(lines).toContainEqual(
      expect.stringMatching(
        /^fuse test image: opendir ino \d+, pid \d+: errno 38 \(Function not implemented\), \d+ us$/,
      ),
    );
  });

  it("is its state on SIGUSR2, also while JavaScript stands still", async () => {
    const server = await FuseServer.mount(image);
    await server.send("content", { kind: "hold", layerOffset: 0 });
    const reader = run("head", ["-c", "10", inside("span6")]);
    await untilWaiting(server, 1);
    void server.send("stall", { ms: 20_000 });
    await untilLogged(server, "stalling");
    server.signal("SIGUSR2");
    await expect.poll(() => server.stderr).toMatch(/spans in flight: 1\n/);
    expect(server.stderr).toMatch(
      /1 FUSE sessions of the native engine\ntest image\n {2}threads: \d+, \d+ idle\n/,
    );
    expect(server.stderr).toMatch(
      /waiting requests: 1\n {4}read ino \d+, \d+ bytes at 0, pid \d+, waiting \d+ ms\n/,
    );
    expect(server.stderr).toMatch(/span 6, 1 readers\n/);
    await server.destroy();
    await reader;
  });
});

async function untilLogged(server: FuseServer, message: string): Promise<void> {
  await expect.poll(() => server.logs.some((line) => line.message === message)).toBe(true);
}
