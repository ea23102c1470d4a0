import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ContainerRuntime, indexImage, makeBundle, umountRootfs } from "../../src/index.js";
import { runtimeNames } from "../../src/runtime/runtime-command.js";
import { writeTestImage } from "../support/oci-layout.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";

/** The library as its users have it: from an image to a container of their own, and back. */
describe.each(runtimeNames)("ContainerRuntime with %s", (name) => {
  if (spawnSync(name, ["--version"]).status !== 0) {
    test.skip(`needs ${name} (apt-get install ${name})`, () => {});
    return;
  }
  let dir: string;
  let runtime: ContainerRuntime;
  let settings: { cacheDir: string; runDir: string };
  let archive: string;
  const id = `skim-test-${process.pid}-library`;

  beforeAll(async () => {
    dir = await makeTempDir("library");
    settings = { cacheDir: path.join(dir, "cache"), runDir: path.join(dir, "run") };
    const layout = path.join(dir, "image");
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...["sh", "sleep", "cat"].map((tool) => ({
        path: `bin/${tool}`,
        type: "symlink" as const,
        link: "busybox",
      })),
    ]);
    await writeTestImage(layout, [{ tar }], { config: { Env: ["PATH=/bin", "A=image"] } });
    ({ archive } = await indexImage({ image: `oci:${layout}`, settings }));
    runtime = new ContainerRuntime({ name, stateDir: path.join(dir, "state") });
  });

  afterAll(async () => {
    await runtime.delete(id);
    await removeTempDir(dir);
  });

  async function withBundle(script: string, use: (bundle: string) => Promise<void>): Promise<void> {
    const directory = path.join(dir, "bundle");
    const options = { image: archive, id: "bundle", settings };
    await makeBundle({ ...options, directory, runtime: name, args: ["sh", "-c", script] });
    try {
      await use(directory);
    } finally {
      await runtime.delete(id);
      await umountRootfs("bundle", { settings });
    }
    const mounts = execFileSync("cat", ["/proc/self/mountinfo"], { encoding: "utf8" });
    expect(mounts).not.toContain(dir);
  }

  test("creates, starts, executes, tells the state, kills, waits and deletes", async () => {
    await withBundle("echo $A from $0; trap 'exit 0' TERM; while :; do sleep 0.1; done", async (bundle) => {
      const log = path.join(dir, "output");
      const fd = openSync(log, "a");
      await runtime.create({ id, bundle, stdio: ["ignore", fd, fd] });
      closeSync(fd);
      expect(await runtime.state(id)).toMatchObject({ status: "created", bundle });
      expect(readFileSync(log, "utf8")).toBe("");
      await expect(runtime.create({ id, bundle })).rejects.toMatchObject({ code: "IN_USE" });

      await runtime.start(id);
      expect((await runtime.state(id))!.status).toBe("running");
      await expect.poll(() => readFileSync(log, "utf8"), { timeout: 10_000 }).toBe("image from sh\n");

      const stdout = new PassThrough();
      const stdio = { stdout, stderr: new PassThrough() };
      const args = ["sh", "-c", "echo $A $B; exit 7"];
      expect(await runtime.exec(id, { args, env: ["B=given"], stdio })).toMatchObject({ exitCode: 7 });
      expect(String(stdout.read())).toBe("image given\n");

      // Another process finds it by its id: nothing is kept in memory.
      const again = new ContainerRuntime({ name, stateDir: runtime.stateDir });
      const ended = again.wait(id);
      await again.kill(id);
      await ended;
      await expect.poll(async () => (await again.state(id))!.status, { timeout: 10_000 }).toBe("stopped");
      await again.delete(id);
      expect(await runtime.state(id)).toBeUndefined();
      await again.delete(id);
    });
  });

  test("says of a container that has ended that it has, to who wants one more process in it", async () => {
    await withBundle("exit 0", async (bundle) => {
      await runtime.create({ id, bundle });
      await runtime.start(id);
      await runtime.wait(id);
      await expect.poll(async () => (await runtime.state(id))!.status, { timeout: 10_000 }).toBe("stopped");
      const stdio = { stdout: new PassThrough(), stderr: new PassThrough() };
      const attempt = runtime.exec(id, { args: ["sh"], stdio });
      await expect(attempt).rejects.toMatchObject({ code: "NOT_FOUND", message: /has ended/ });
    });
  });

  test("deletes what runs, and stops waiting when told to", async () => {
    await withBundle("sleep 1000", async (bundle) => {
      await runtime.create({ id, bundle });
      await runtime.start(id);
      const signal = AbortSignal.timeout(100);
      await expect(runtime.wait(id, { signal })).rejects.toMatchObject({ code: "CANCELLED" });
      await runtime.delete(id);
      expect(await runtime.state(id)).toBeUndefined();
    });
  });

  test("runs a bundle to its end, and has its exit code", async () => {
    await withBundle("echo done; exit 9", async (bundle) => {
      const stdout = new PassThrough();
      const ran = await runtime.run({ id, bundle, stdio: { stdout, stderr: new PassThrough() } });
      expect([ran, String(stdout.read())]).toEqual([{ exitCode: 9 }, "done\n"]);
      expect(await runtime.state(id)).toBeUndefined();
    });
  });

  test("creates nothing once it is cancelled, and names what is not there", async () => {
    await withBundle("sleep 1000", async (bundle) => {
      const signal = AbortSignal.abort();
      await expect(runtime.create({ id, bundle, signal })).rejects.toMatchObject({ code: "CANCELLED" });
      for (const attempt of [() => runtime.start(id), () => runtime.kill(id), () => runtime.wait(id)])
        await expect(attempt()).rejects.toMatchObject({ code: "NOT_FOUND" });
    });
  });
});
