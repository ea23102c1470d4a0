/** System calls on mounts, made by another process. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import path from "node:path";
import { afterEach, expect, it } from "vitest";
import { Mounter } from "../../src/holder/mounter.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { destroyPlaces, findMount, KeptPlace, kill, run } from "./kept-server.js";

const mounts: string[] = [];
const mounters: Mounter[] = [];
afterEach(async () => {
  for (const mounter of mounters.splice(0)) await mounter.close();
  for (const mountpoint of mounts.splice(0))
    while (findMount(mountpoint)) await run("umount", ["-l", mountpoint]);
  await destroyPlaces();
});

function startMounter(): Mounter {
  const mounter = Mounter.start();
  mounters.push(mounter);
  return mounter;
}

async function makeMountpoint(): Promise<string> {
  const mountpoint = path.join(await makeTempDir("mounter"), "mount point, é");
  await mkdir(mountpoint);
  mounts.push(mountpoint);
  return mountpoint;
}

/** Of this process, by their command line. */
function mounterPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const parent = / \d+ \(.*\) \S (\d+) /s.exec(` ${readFileSync(`/proc/${pid}/stat`, "latin1")}`)?.[1];
        return (
          Number(parent) === process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--mounter")
        );
      } catch {
        return false;
      }
    });
}

it("mounts, looks and unmounts", async () => {
  const mountpoint = await makeMountpoint();
  const mounter = startMounter();
  await mounter.mount("a source", mountpoint, "tmpfs", 1, "size=1m,mode=700");
  expect(findMount(mountpoint)).toMatchObject({
    type: "tmpfs",
    source: "a source",
    options: ["ro", "relatime"],
  });
  const seen = await stat(mountpoint);
  expect(await mounter.statRoot(mountpoint)).toEqual({ inode: seen.ino, device: seen.dev });
  await mounter.umount(mountpoint, 0);
  expect(findMount(mountpoint)).toBeUndefined();
  await mounter.close();
  expect(mounterPids()).toEqual([]);
});

it("fails as the addon does", async () => {
  const native = loadNative();
  const mounter = startMounter();
  const facts = (error: Error) => ({ ...error, message: error.message.toLowerCase() });
  const failure = (promise: Promise<unknown>) => promise.then(() => expect.unreachable(), facts);
  const dir = await makeTempDir("mounter");
  const long = "x".repeat(5000);
  for (const [source, target, type, data] of [
    ["none", path.join(dir, "missing"), "tmpfs", ""],
    ["none", dir, "no such type", ""],
    ["none", dir, "tmpfs", "no-such-option"],
    ["none", dir, "tmpfs", long],
  ] as const)
    expect(await failure(mounter.mount(source, target, type, 0, data))).toEqual(
      await failure((async () => native.mount(source, target, type, 0, data))()),
    );
  expect(await failure(mounter.umount("/nul\0byte", 0))).toMatchObject({
    code: "EINVAL",
    syscall: "umount2",
  });
  for (const target of [path.join(dir, "missing"), dir])
    expect(await failure(mounter.umount(target, 0))).toEqual(await failure(native.umount(target, 0)));
  expect(await failure(mounter.statRoot(path.join(dir, "missing")))).toMatchObject({
    code: "ENOENT",
    syscall: "stat",
  });
});

it("a call that hangs holds up no other, and is answered when it goes on", async () => {
  const place = await KeptPlace.make("hanging", 1);
  const server = await place.serve();
  const mounter = startMounter();
  server.signal("SIGSTOP");
  // What the kernel knows of the root is good for a year: a path that it does not know must ask.
  const hanging = mounter.statRoot(path.join(place.mountpoint, "file0"));
  const order: string[] = [];
  void hanging.then(() => order.push("hanging"));
  for (let i = 0; i < 20; i++) await mounter.statRoot("/proc");
  order.push("others");
  server.signal("SIGCONT");
  expect((await hanging).inode).toBeGreaterThan(1);
  expect(order).toEqual(["others", "hanging"]);
});

it("a hundred calls at once are all answered", async () => {
  const mounter = startMounter();
  const { ino, dev } = await stat("/proc");
  const all = await Promise.all(Array.from({ length: 100 }, () => mounter.statRoot("/proc")));
  expect(all).toEqual(all.map(() => ({ inode: ino, device: dev })));
});

it("one that dies is followed by another; what was under way fails", async () => {
  const place = await KeptPlace.make("dying", 1);
  const server = await place.serve();
  // Those of the tests before may still be ending.
  const others = mounterPids();
  const mounter = startMounter();
  await mounter.statRoot("/proc");
  const pid = mounterPids().find((one) => !others.includes(one));
  server.signal("SIGSTOP");
  const hanging = mounter.statRoot(path.join(place.mountpoint, "file0")).catch((error) => error);
  await mounter.statRoot("/proc");
  kill(pid!, "SIGKILL");
  // Its child hangs on, and nobody waits for that.
  expect(await hanging).toMatchObject({ code: "LOCAL_IO" });
  server.signal("SIGCONT");
  expect((await mounter.statRoot("/proc")).inode).toBeGreaterThan(0);
});

it("does not keep its process, and ends with it", async () => {
  const dist = path.resolve(import.meta.dirname, "../../dist");
  const source = `
    const { Mounter } = await import(${JSON.stringify(path.join(dist, "holder/mounter.js"))});
    const mounter = Mounter.start();
    await mounter.statRoot("/proc");
    console.log("answered");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (text) => {
    said += text;
  });
  expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
  expect(said).toBe("answered\n");
});
