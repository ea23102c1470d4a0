import { execFile, spawn } from "node:child_process";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findMount } from "../../src/fuse/mount-table.js";
import { DaemonHost, eventually, killAndWait } from "../support/daemon-host.js";
import { cliFile } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

/** What somebody meets who runs a host: mistakes in a command line, a full disk, what others have left. */
describe("a daemon in the hands of an operator", () => {
  let dir: string;
  let images: ControlImages;
  let image: string;

  beforeAll(async () => {
    dir = await makeTempDir("operator");
    images = await startControlImages(dir, { images: 2 });
    image = images.names[0]!;
  });

  afterAll(async () => await images.registry.close());

  describe("a start that comes to nothing", () => {
    it("leaves nobody who tries it again and again", async () => {
      const host = await DaemonHost.make();
      const taken = `127.0.0.1:${images.registry.host.split(":")[1]}`;
      const cases: [string[], RegExp, number][] = [
        [["--metrics", "here"], /^skim: USAGE: .*HOST:PORT/m, 2],
        [["--metrics", "127.0.0.1:70000"], /^skim: USAGE: .*HOST:PORT/m, 2],
        [["--metrics", taken], /^skim: LOCAL_IO: cannot listen on .*EADDRINUSE/m, 12],
      ];
      for (const [args, complaint, code] of cases) {
        const result = await host.skim.run(["daemon", ...args]);
        expect(result.stderr).toMatch(complaint);
        expect(result.code).toBe(code);
        await eventually("its holder has ended", () => host.processes().length === 0);
      }
    });

    it("says that the path of its run directory is too long for a socket, and makes none elsewhere", async () => {
      const host = await DaemonHost.make();
      const runDir = path.join(dir, "x".repeat(100 - dir.length));
      const result = await host.skim.run(["daemon", "--run-dir", runDir]);
      expect(result.stderr).toMatch(/^skim: USAGE: the run directory .* too long/m);
      expect(result.code).toBe(2);
      expect((await readdir(dir)).filter((name) => name.startsWith("x"))).toEqual([]);
    });

    it("serves what is mounted without metrics while their port is another's, and with them from then on", async () => {
      const host = await DaemonHost.make();
      await host.start();
      const { merged } = await host.client.createRootfs({ id: "port", image });
      const other = createServer();
      await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
      const { port } = other.address() as { port: number };
      await host.start(["--metrics", `127.0.0.1:${port}`]);
      expect((await exec("sha256sum", ["-c", "sums"], { cwd: merged })).stdout).toContain("files/0: OK");
      await new Promise((resolve) => other.close(resolve));
      const text = await eventually("metrics are served", async () =>
        fetch(`http://127.0.0.1:${port}/metrics`).then(
          (answer) => answer.text(),
          () => undefined,
        ),
      );
      expect(text).toContain("skim_build_info");
      await host.shutdown(true);
      expect(await host.leftovers()).toEqual([]);
    });
  });

  describe("writable layers that no record names", () => {
    it("are kept where somebody asked for that, over the next daemon and gc", async () => {
      const host = await DaemonHost.make();
      await host.start();
      const { upper } = await host.client.createRootfs({ id: "kept", image });
      await host.client.remove("kept", { keepUpper: true });
      await host.shutdown();
      await host.start();
      expect((await stat(upper)).isDirectory()).toBe(true);
      expect(await host.client.leftovers({ remove: true })).toMatchObject([
        { name: path.dirname(upper), kept: expect.stringContaining("was kept") },
      ]);
      expect((await stat(upper)).isDirectory()).toBe(true);
      await host.client.leftovers({ remove: true, all: true });
      await expect(stat(upper)).rejects.toThrow("ENOENT");
      await host.shutdown();
    });

    it("are kept where they hold changes, though the run directory went down with the host", async () => {
      const host = await DaemonHost.make();
      for (const [id, file] of [
        ["written", "work/result"],
        ["seeded", "tmp"],
      ] as const) {
        const directory = path.join(host.skim.cacheDir, "rootfs", id);
        await mkdir(path.join(directory, "upper.skim-work"), { recursive: true });
        await mkdir(path.join(directory, "upper", path.dirname(file)), { recursive: true });
        if (id === "written") await writeFile(path.join(directory, "upper", file), "result");
      }
      await host.start();
      expect(await readdir(path.join(host.skim.cacheDir, "rootfs"))).toEqual(["written"]);
      await host.client.leftovers({ remove: true, all: true });
      await host.shutdown();
      expect(await host.leftovers()).toEqual([]);
    });

    it("stay where another run directory's rootfs stands on them", async () => {
      const [one, other] = [await DaemonHost.make(), await DaemonHost.make()];
      await one.start();
      const { merged, upper } = await one.client.createRootfs({ id: "theirs", image });
      await other.start(["--cache-dir", one.skim.cacheDir]);
      const [found] = await other.client.leftovers({ remove: true, all: true });
      expect(found).toMatchObject({ name: path.dirname(upper), kept: `in use by the overlay at ${merged}` });
      await exec("sh", ["-c", 'echo mine > "$1"/new', "sh", merged]);
      expect(await readFile(path.join(upper, "new"), "utf8")).toBe("mine\n");
      await other.shutdown();
      await one.client.remove("theirs");
      await one.shutdown();
      expect([...(await one.leftovers()), ...(await other.leftovers())]).toEqual([]);
    });
  });

  it("a record that it cannot read keeps its id and all that bears its name, and is shown", async () => {
    const host = await DaemonHost.make();
    const file = path.join(host.skim.runDir, "mounts", "old.json");
    const directory = path.join(host.skim.runDir, "rootfs", "old");
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await mkdir(directory, { recursive: true });
    await writeFile(file, '{"recordVersion":0,"id":"old"}');
    await host.start();
    const [found] = await host.client.leftovers({ remove: true });
    expect(found).toMatchObject({ kind: "record", name: file, kept: expect.stringContaining("old") });
    expect((await stat(directory)).isDirectory()).toBe(true);
    await expect(host.client.createRootfs({ id: "old", image })).rejects.toMatchObject({
      code: "IN_USE",
      message: expect.stringContaining(file),
    });
    await host.client.leftovers({ remove: true, all: true });
    await host.client.leftovers({ remove: true });
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("goes on over its own death while its run directory is full, and says what cannot be written", async () => {
    const host = await DaemonHost.make();
    await mkdir(host.skim.runDir, { recursive: true });
    await exec("mount", ["-t", "tmpfs", "-o", "size=1m,mode=0700", "none", host.skim.runDir]);
    try {
      await host.start();
      const { merged } = await host.client.createRootfs({ id: "full", image });
      const fill = path.join(host.skim.runDir, "fill");
      await exec("sh", ["-c", 'dd if=/dev/zero of="$1" bs=4k 2>/dev/null || true', "sh", fill]);
      const refused = await host.skim.run(["rootfs", "mount", image, "--id", "more"]);
      expect(refused.stderr).toMatch(/^skim: LOCAL_IO: the record of more cannot be written: ENOSPC/m);
      await host.nextServer(await host.killServer());
      expect((await exec("sha256sum", ["-c", "sums"], { cwd: merged })).stdout).toContain("files/3: OK");
      await exec("rm", [fill]);
      await host.client.createRootfs({ id: "more", image: images.names[1]! });
      await host.shutdown(true);
      expect(await readdir(path.join(host.skim.runDir, "mounts"))).toEqual([]);
    } finally {
      await host.end();
      await exec("umount", ["-l", host.skim.runDir]);
    }
  });

  it("tells of a rootfs what it has logged of it and of its image, and that there is no such thing", async () => {
    const host = await DaemonHost.make();
    await host.start();
    const { imageId } = await host.client.createRootfs({ id: "told", image });
    const lines = (await host.skim.ok(["daemon", "logs", "told"])).trimEnd().split("\n");
    const mounts = lines.map((line) => JSON.parse(line).mount);
    expect(new Set(mounts)).toEqual(new Set([imageId, "told"]));
    await host.client.remove("told");
    expect(await host.client.logs("told")).toContain('"msg":"undone"');
    const unknown = await host.skim.run(["daemon", "logs", "never"]);
    expect(unknown.stderr).toMatch(/^skim: NOT_FOUND: no mount has id never/m);
    expect(unknown.code).toBe(3);
    await host.shutdown();
  });

  it("mounts an image anew though a container stands on what died of it, and removes all that nobody uses", async () => {
    const host = await DaemonHost.make();
    await host.start();
    const dead = await host.client.createRootfs({ id: "idle", image });
    const held = await host.client.createRootfs({ id: "held", image });
    const holder = spawn("sleep", ["1000"], { cwd: held.merged, stdio: "ignore" });
    try {
      await host.killEverybody();
      await host.start();
      expect((await host.client.list("rootfs")).map(({ id }) => id)).toEqual(["held"]);
      expect(findMount(dead.merged)).toBeUndefined();
      const { merged, imageId } = await host.client.createRootfs({ id: "new", image });
      expect(imageId).not.toBe(held.imageId);
      expect((await exec("sha256sum", ["-c", "sums"], { cwd: merged })).stdout).toContain("files/0: OK");
      expect((await host.client.createRootfs({ id: "next", image })).imageId).toBe(imageId);
      const shown = await host.client.leftovers();
      expect(shown.map(({ kind, name }) => [kind, name])).toEqual([
        ["rootfs", "held"],
        ["image", held.imageId],
      ]);
      for (const { kept } of shown) expect(kept).toMatch(/^in use by /);
    } finally {
      holder.kill("SIGKILL");
    }
    await eventually("it can be removed", async () =>
      (await host.client.leftovers({ remove: true })).every(({ kept }) => kept === undefined),
    );
    await host.shutdown(true);
    expect(await host.leftovers()).toEqual([]);
  });

  it("does not take a shared mount away under its rootfs, whoever asks by its id, with a server or while none is there", async () => {
    const host = await DaemonHost.make();
    const child = await host.start();
    const { merged, imageId } = await host.client.createRootfs({ id: "stands", image });
    const refuse = async () => {
      for (const args of [
        ["umount", imageId],
        ["rootfs", "umount", imageId, "--force"],
      ])
        expect(await host.skim.run(args)).toMatchObject({
          code: 2,
          stderr: expect.stringMatching(/goes by itself when nobody uses it/),
        });
    };
    await refuse();
    await killAndWait(child.pid!, "SIGTERM");
    await refuse();
    await host.start();
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.shutdown(true);
  });

  it("is told what skim daemon has where it asks for what it has not", async () => {
    const host = await DaemonHost.make();
    const unknown = await host.skim.run(["daemon", "stats"]);
    expect(unknown).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/no command "stats"; it has status, /),
    });
    expect(host.servers()).toEqual([]);
  });

  it("says of a host without a server that its mounts are held, and of one without anything that there is none", async () => {
    const host = await DaemonHost.make();
    expect((await host.skim.run(["daemon", "status"])).stderr).not.toContain("held");
    const child = await host.start();
    const { merged } = await host.client.createRootfs({ id: "waits", image });
    await killAndWait(child.pid!, "SIGTERM");
    const result = await host.skim.run(["daemon", "status"]);
    expect(result.stderr).toMatch(/^skim: NOT_FOUND: no daemon answers .*held.*start one/m);
    expect(result.code).toBe(3);
    await host.start();
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.shutdown(true);
  });

  it("is started again with the settings that it had, from wherever it was started", async () => {
    const host = await DaemonHost.make();
    await writeFile(path.join(dir, "settings.json"), JSON.stringify({ cacheDir: host.skim.cacheDir }));
    const ways: [string[], NodeJS.ProcessEnv][] = [
      [["--config", "settings.json", "--run-dir", path.relative(dir, host.skim.runDir)], {}],
      [[], { SKIM_CONFIG: "settings.json", SKIM_RUN_DIR: path.relative(dir, host.skim.runDir) }],
    ];
    for (const [args, variables] of ways) {
      const { SKIM_CACHE_DIR: _, SKIM_RUN_DIR: __, ...env } = host.skim.env;
      const child = spawn(process.execPath, [cliFile, "daemon", ...args], {
        cwd: dir,
        env: { ...env, ...variables },
        stdio: "ignore",
      });
      await eventually("it is ready", async () => (await host.client.ready().catch(() => undefined))?.ready);
      const { merged } = await host.client.createRootfs({ id: "far", image });
      await killAndWait(child.pid!);
      await host.nextServer(child.pid!);
      expect(await host.client.health()).toMatchObject({ cacheDir: host.skim.cacheDir });
      expect((await exec("sha256sum", ["-c", "sums"], { cwd: merged })).stdout).toContain("files/0: OK");
      await host.client.shutdown({ force: true });
      await eventually("it has ended", () => host.processes().length === 0);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("undoes a rootfs whose writable layer somebody has deleted with the cache directory", async () => {
    const host = await DaemonHost.make();
    await host.start();
    const { merged } = await host.client.createRootfs({ id: "bereft", image });
    await exec("rm", ["-rf", host.skim.cacheDir]);
    expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
    await host.client.remove("bereft");
    expect(findMount(merged)).toBeUndefined();
    await host.shutdown();
    expect(await host.leftovers()).toEqual([]);
  });

  it("is heard of oftener than a service manager wants, however little that is", async () => {
    const host = await DaemonHost.make();
    const address = path.join(dir, "notify");
    const script = path.resolve(import.meta.dirname, "../holder/fake-systemd.py");
    const service = ["env", "WATCHDOG_USEC=200000", process.execPath, cliFile, "daemon"];
    const manager = spawn("python3", [script, address, ...service], {
      env: { ...host.skim.env, FDSTORE: "10" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const told: Record<string, string>[] = [];
    createInterface({ input: manager.stdout }).on("line", (line) => told.push(JSON.parse(line).fields ?? {}));
    try {
      manager.stdin.write("start\n");
      await eventually("it is ready", async () => (await host.client.ready().catch(() => undefined))?.ready);
      // Of its own accord it would take longer for these than this waits.
      await eventually(
        "it has been heard of often enough",
        () => told.filter((fields) => fields.WATCHDOG === "1").length > 40,
      );
    } finally {
      if (await host.health()) await host.client.shutdown();
      manager.kill("SIGKILL");
    }
  });
});
