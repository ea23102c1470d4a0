import { execFile } from "node:child_process";
import { readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);

interface Rootfs {
  readonly id: string;
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
}

const mode = async (file: string) => ((await stat(file)).mode & 0o7777).toString(8);

describe("skim rootfs mount", () => {
  let host: SkimHost;
  let archive: string;

  beforeAll(async () => {
    const dir = await makeTempDir("rootfs");
    host = await makeSkimHost();
    archive = path.join(dir, "image.skim");
    const layout = path.join(dir, "image");
    const tar = buildTar([
      { path: "./", type: "directory", mode: 0o711 },
      { path: "tmp/", type: "directory", mode: 0o1777 },
      { path: "srv/", type: "directory", mode: 0o2750, uid: 7, gid: 8, mtimeSec: 1_000_000_000 },
      { path: "run/", type: "directory", mode: 0o755 },
      { path: "var/", type: "directory", mode: 0o755 },
      { path: "var/run", type: "symlink", link: "/run" },
      { path: "etc/", type: "directory", mode: 0o755 },
      { path: "etc/hello", content: "hello\n" },
    ]);
    await writeTestImage(layout, [{ tar }]);
    await host.ok(["index", `oci:${layout}`, "-o", archive]);
  });

  it("seeds what is missing with its canonical mode, and clones what the image has", async () => {
    const dirs = ["--dir", "/workspace:0775", "--dir", "/srv:0700", "--dir", "/var/run/app"];
    const rootfs = await host.json<Rootfs>(["rootfs", "mount", archive, "--id", "seeds", ...dirs]);
    try {
      const at = (name: string) => path.join(rootfs.merged, name);
      expect(await mode(rootfs.merged)).toBe("711");
      expect(await mode(at("proc"))).toBe("555");
      expect(await mode(at("sys"))).toBe("555");
      expect(await mode(at("dev"))).toBe("755");
      expect(await mode(at("tmp"))).toBe("1777");
      expect(await mode(at("workspace"))).toBe("775");
      expect(await mode(at("srv"))).toBe("2750");
      expect(await stat(at("srv"))).toMatchObject({ uid: 7, gid: 8, mtimeMs: 1_000_000_000_000 });
      expect((await stat(at("run/app"))).isDirectory()).toBe(true);
    } finally {
      await host.ok(["rootfs", "umount", "seeds"]);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("takes writes into the upper and leaves the image as it is", async () => {
    const rootfs = await host.json<Rootfs>(["rootfs", "mount", archive, "--id", "writes"]);
    try {
      await writeFile(path.join(rootfs.merged, "etc/hello"), "changed\n");
      expect(await readFile(path.join(rootfs.upper, "etc/hello"), "utf8")).toBe("changed\n");
      expect((await exec("cat", [path.join(rootfs.lower, "etc/hello")])).stdout).toBe("hello\n");
      await expect(exec("touch", [path.join(rootfs.lower, "etc/new")])).rejects.toThrow(
        /Read-only file system/,
      );
    } finally {
      await host.ok(["rootfs", "umount", "writes"]);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("keeps the upper when asked to, and takes it again", async () => {
    const upper = path.join(await makeTempDir("upper"), "upper");
    for (const [round, expected] of [
      ["one", "hello\n"],
      ["two", "from one\n"],
    ] as const) {
      const rootfs = await host.json<Rootfs>(["rootfs", "mount", archive, "--id", round, "--upper", upper]);
      const file = path.join(rootfs.merged, "etc/hello");
      expect(await readFile(file, "utf8")).toBe(expected);
      await writeFile(file, `from ${round}\n`);
      await host.ok(["rootfs", "umount", round]);
    }
    const rootfs = await host.json<Rootfs>(["rootfs", "mount", archive, "--id", "kept"]);
    await writeFile(path.join(rootfs.merged, "etc/hello"), "kept\n");
    const undone = await host.json<{ upper: string }>(["rootfs", "umount", "kept", "--keep-upper"]);
    expect(await readFile(path.join(undone.upper, "etc/hello"), "utf8")).toBe("kept\n");
  });

  it("holds the upper in memory with --tmpfs-upper, and nothing of it stays", async () => {
    const rootfs = await host.json<Rootfs>(["rootfs", "mount", archive, "--id", "memory", "--tmpfs-upper"]);
    expect((await exec("stat", ["--file-system", "--format=%T", rootfs.upper])).stdout.trim()).toBe("tmpfs");
    await host.ok(["rootfs", "umount", "memory"]);
    await expect(stat(rootfs.upper)).rejects.toThrow(/ENOENT/);
  });

  it("is undone by rootfs umount after its server was killed", async () => {
    const fresh = await makeSkimHost();
    await fresh.json<Rootfs>(["rootfs", "mount", archive, "--id", "orphan"]);
    const [listed] = await fresh.json<{ pid: number }[]>(["ps"]);
    process.kill(listed!.pid, "SIGKILL");
    await fresh.ok(["rootfs", "umount", "orphan"]);
    expect(await fresh.leftovers()).toEqual([]);
  });

  it("leaves nothing, or a whole rootfs, whenever it is killed", async () => {
    const fresh = await makeSkimHost();
    const outcomes = { nothing: 0, whole: 0 };
    for (let delayMs = 100; delayMs <= 1_000; delayMs += 75) {
      const id = `cut-${delayMs}`;
      const child = fresh.start(["rootfs", "mount", archive, "--id", id, "--json"]);
      const timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
      const { stdout } = await resultOf(child);
      clearTimeout(timer);
      if (stdout.includes("merged")) {
        outcomes.whole++;
        await fresh.ok(["rootfs", "umount", id]);
      } else {
        outcomes.nothing++;
      }
    }
    expect(outcomes.nothing).toBeGreaterThan(0);
    // Servers tidy up behind their dead parents; what died before it had a server, the next one who mounts finds.
    await expect
      .poll(
        async () => {
          await fresh.ok(["rootfs", "mount", archive, "--id", "next"]);
          await fresh.ok(["rootfs", "umount", "next"]);
          return await fresh.leftovers();
        },
        { timeout: 30_000, interval: 500 },
      )
      .toEqual([]);
  });

  it("leaves nothing when the overlay cannot be stacked", async () => {
    const fresh = await makeSkimHost();
    const result = await fresh.run(["rootfs", "mount", archive, "--id", "bad", "--dir", "/etc/hello/below"]);
    expect(result.code).toBe(8);
    expect(result.stderr).toMatch(/skim: MOUNT_FAILED: .*\/etc\/hello/);
    expect(await fresh.leftovers()).toEqual([]);
  });
});
