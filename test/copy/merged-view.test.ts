import { readdirSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { copyIn, listFiles, statFile } from "../../src/mount/container-files.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxArchive, startContainerOf, uniqueId } from "./busybox-container.js";

/** A rootfs and a bundle whose containers are other runtimes', and what is left by a program that is killed. */
let host: SkimHost;
let archive: string;

beforeAll(async () => {
  host = await makeSkimHost();
  archive = await busyboxArchive(host);
});

afterAll(async () => {
  expect(await host.leftovers()).toEqual([]);
});

const settings = () => ({ cacheDir: host.cacheDir, runDir: host.runDir });
const content = Buffer.from("content");

test("a bundle without a container is written where the container will see it, and refused by name where it would not", async () => {
  const bundle = path.join(await makeTempDir("bundle"), "b");
  const mounts = [
    "--mount",
    "type=tmpfs,target=/mem",
    "--mount",
    `type=bind,source=${path.dirname(bundle)},target=/work/bound`,
  ];
  await host.ok(["bundle", archive, bundle, "--id", "bun", ...mounts, "--", "sh"]);
  try {
    const of = { id: "bun", settings: settings() };
    const paths = [
      "/work/seen",
      "/mem/x",
      "/work/bound/deep/y",
      "/dev/z",
      "/work/bound",
      "/etc/hostname",
      "/tmp/l/../../mem/w",
    ];
    const results = await copyIn({ ...of, files: paths.map((one) => ({ path: one, content })) });
    expect(results.map(({ error }) => error?.match(/a mount at (\S+),/)?.[1] ?? error)).toEqual([
      undefined,
      "/mem",
      "/work/bound",
      "/dev",
      "/work/bound",
      "/etc/hostname",
      "/mem",
    ]);
    expect(readFileSync(path.join(bundle, "rootfs/work/seen"), "utf8")).toBe("content");
    expect(await statFile({ ...of, path: "/work/seen" })).toMatchObject({ uid: 1234, gid: 1235 });
    await expect(listFiles({ ...of, path: "/dev" })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("/dev"),
    });
  } finally {
    await host.ok(["rootfs", "umount", "bun"]);
  }
});

test("a container whose root may do nothing is written under runsc as well", async () => {
  const box = await startContainerOf(host, archive, ["--runtime", "runsc", "--profile", "runc"]);
  try {
    const of = { id: box.id, settings: settings() };
    expect(await copyIn({ ...of, files: [{ path: "/etc/f", content }] })).toEqual([{ path: "/etc/f" }]);
    expect(await statFile({ ...of, path: "/etc/f" })).toMatchObject({ uid: 1234, gid: 1235 });
  } finally {
    await box.end();
  }
});

test.each([["runc"], ["runsc"]])("a copy ends with its container, %s", async (runtime) => {
  const box = await startContainerOf(host, archive, ["--runtime", runtime]);
  async function* untilItEnds() {
    yield content;
    await box.end();
    await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
  }
  const files = [{ path: "/work/f", content: untilItEnds() }];
  await expect(copyIn({ id: box.id, settings: settings(), files })).rejects.toMatchObject({
    code: expect.stringMatching(/^(NOT_FOUND|RUNTIME_FAILED)$/),
    message: expect.stringContaining("has ended"),
  });
});

test("an image without shell and tools is written and read all the same, under every runtime", async () => {
  const bare = await busyboxArchive(host, { Entrypoint: ["/bin/sleep", "1000"] });
  for (const runtime of ["runc", "runsc"]) {
    const id = uniqueId();
    const child = host.start(["run", "--id", id, "--runtime", runtime, bare]);
    const ended = new Promise((resolve) => child.once("close", resolve));
    const of = { id, settings: settings() };
    try {
      await expect
        .poll(() => listFiles({ ...of, path: "/work" }).catch(() => undefined), { timeout: 30_000 })
        .toEqual([]);
      expect(await copyIn({ ...of, files: [{ path: "/work/f", content }] })).toEqual([{ path: "/work/f" }]);
      expect(await statFile({ ...of, path: "/work/f" })).toMatchObject({ size: content.length });
    } finally {
      // skim run is at it as well, as soon as its container is gone.
      await host.run(["rootfs", "umount", id, "--force"]);
      await ended;
    }
    await expect(listFiles({ ...of, path: "/" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  }
});

test("a program that hangs is killed, and what it left unfinished is removed", async () => {
  const box = await startContainerOf(host, archive, []);
  try {
    async function* stalled() {
      yield content;
      // The program has begun: stopped, it neither reads nor ends.
      await expect.poll(() => box.sh("ls -A /work")).toMatch(/^\.skim-/);
      for (const pid of filesProgramsOf(process.pid)) process.kill(pid, "SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
    }
    const of = { id: box.id, settings: settings() };
    const abort = new AbortController();
    const attempt = copyIn({ ...of, files: [{ path: "/work/f", content: stalled() }], signal: abort.signal });
    const outcome = attempt.catch((error: unknown) => error);
    await expect.poll(() => filesProgramsOf(process.pid).some(isStopped), { timeout: 30_000 }).toBe(true);
    abort.abort();
    expect(await outcome).toMatchObject({ code: "CANCELLED" });
    expect(await box.sh("ls -A /work")).toBe("");
    expect(filesProgramsOf(process.pid)).toEqual([]);
  } finally {
    await box.end();
  }
});

test("the command line that is killed leaves nothing unfinished either", async () => {
  const box = await startContainerOf(host, archive, []);
  try {
    // Long enough to be killed in it.
    const source = path.join(await makeTempDir("large"), "large");
    const file = await open(source, "w");
    await file.truncate(2 ** 40);
    await file.close();
    const copy = host.start(["cp", source, `${box.id}:/work/f`]);
    await expect.poll(() => box.sh("ls -A /work"), { timeout: 30_000 }).toMatch(/^\.skim-/);
    copy.kill("SIGKILL");
    await new Promise((resolve) => copy.once("close", resolve));
    await expect.poll(() => box.sh("ls -A /work"), { timeout: 30_000 }).toBe("");
  } finally {
    await box.end();
  }
});

/** Processes of skim-files that a process has started. */
function filesProgramsOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const stat = statOf(pid);
      return (
        stat.includes("(skim-files)") &&
        Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent
      );
    });
}

function isStopped(pid: number): boolean {
  return / T /.test(statOf(pid));
}

function statOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return "";
  }
}
