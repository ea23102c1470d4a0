/** A server that is killed under a mount in use, and another one that takes its place on the same descriptor. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, it } from "vitest";
import { findMount } from "../../src/fuse/mount-table.js";
import { directory, file } from "../archive/sample-archive.js";
import { makeImage, run } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";

const dist = process.env.SKIM_TEST_DIST ?? path.resolve(import.meta.dirname, "../../dist");
const MiB = 1024 * 1024;
const kills = 10;
const children: ChildProcess[] = [];
let mountpoint = "";

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  while (mountpoint && findMount(mountpoint)) await run("umount", ["-l", mountpoint]);
});

/** A child that talks in lines. */
function startLines(program: string, args: readonly string[]) {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return {
    child,
    next: async () => String((await lines.next()).value),
    say: (line: string) => void child.stdin!.write(`${line}\n`),
  };
}

it(`readers see no error and no wrong byte while their server is killed ${kills} times`, async () => {
  const dir = await makeTempDir("replace");
  const fileBytes = 3 * MiB + 12_345;
  const files = 12;
  const layer = randomBytes(files * fileBytes);
  const names = Array.from({ length: files }, (_, i) => `file${i}`);
  const image = await makeImage(
    dir,
    directory(Object.fromEntries(names.map((name, i) => [name, file(i * fileBytes, fileBytes)]))),
    layer,
  );
  mountpoint = image.mountpoint;
  const digests = names.map((_, i) =>
    createHash("sha256")
      .update(layer.subarray(i * fileBytes, (i + 1) * fileBytes))
      .digest("hex"),
  );
  // The delay makes sure that there are reads under way whenever a server dies.
  const holder = startLines(process.execPath, [
    path.resolve(import.meta.dirname, "../support/fuse-holder.mjs"),
    JSON.stringify({ dist, ...image, delayMs: 10 }),
  ]);
  expect(JSON.parse(await holder.next())).toMatchObject({ event: "ready" });

  // Reads all files again and again, each time dropping what the kernel keeps of them, and looks at attributes and names in between.
  const source = `
import hashlib, json, os, sys, threading, time
mount, wanted = sys.argv[1], json.loads(sys.argv[2])
stop = threading.Event()
result = {"rounds": 0, "failures": []}
def read(names):
    while not stop.is_set():
        for name in names:
            try:
                fd = os.open(os.path.join(mount, name), os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                digest = hashlib.sha256()
                while piece := os.read(fd, 300_001): digest.update(piece)
                os.close(fd)
                if digest.hexdigest() != wanted[name]: result["failures"].append(name + ": other bytes")
                os.stat(os.path.join(mount, name))
                try: os.stat(os.path.join(mount, "none" + str(result["rounds"])))
                except FileNotFoundError: pass
            except OSError as error:
                result["failures"].append(repr(error))
            result["rounds"] += 1
names = list(wanted)
threads = [threading.Thread(target=read, args=(names[i::4],)) for i in range(4)]
for thread in threads: thread.start()
print("reading", flush=True)
for line in sys.stdin:
    if line == "stop\\n": break
    seen = result["rounds"]
    while result["rounds"] < seen + 3: time.sleep(0.001)
    print("read", flush=True)
stop.set()
for thread in threads: thread.join()
print(json.dumps(result), flush=True)`;
  const wanted = Object.fromEntries(names.map((name, i) => [name, digests[i]]));
  const reader = startLines("python3", ["-c", source, mountpoint, JSON.stringify(wanted)]);
  expect(await reader.next()).toBe("reading");

  const pids = new Set<number>();
  for (let round = 0; round < kills; round++) {
    holder.say("replace");
    const { event, pid } = JSON.parse(await holder.next());
    expect(event).toBe("replaced");
    pids.add(pid);
    // Some reads end with this server, others are in the middle when it is killed.
    reader.say("more");
    expect(await reader.next()).toBe("read");
  }
  expect(pids.size).toBe(kills);
  reader.say("stop");
  const { rounds, failures } = JSON.parse(await reader.next());
  expect(failures).toEqual([]);
  expect(rounds).toBeGreaterThan(files);

  expect((await run("umount", [mountpoint])).code).toBe(0);
  holder.say("end");
  await once(holder.child, "exit");
  expect(findMount(mountpoint)).toBeUndefined();
});
