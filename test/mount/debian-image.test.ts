import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debianLayout } from "../support/debian-image.js";
import { type DockerRegistry, startDockerRegistry } from "../support/docker-registry.js";
import { engines } from "../support/engines.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type DumpLine, dumpTree } from "../support/tree-dump.js";
import { unpackLayout } from "../support/umoci.js";

const exec = promisify(execFile);

/** A Debian image with Python and numpy, in Debian's own registry: the real thing from end to end. */
describe("a Debian image in docker-registry", () => {
  let registry: DockerRegistry;
  let host: SkimHost;
  let layout: string;
  let image: string;
  let archive: string;
  let imageBytes: number;

  beforeAll(async () => {
    const dir = await makeTempDir("debian");
    layout = await debianLayout();
    registry = await startDockerRegistry(dir);
    image = `${registry.host}/debian/numpy:latest`;
    await exec("skopeo", [
      "copy",
      "--quiet",
      "--dest-tls-verify=false",
      `oci:${layout}:debian`,
      `docker://${image}`,
    ]);
    host = await makeSkimHost();
    archive = path.join(dir, "debian.skim");
    const indexed = await host.json<{ compressedBytes: number }>(["index", image, "-o", archive]);
    imageBytes = indexed.compressedBytes;
  });

  afterAll(async () => {
    await registry?.stop();
    expect(await host.leftovers()).toEqual([]);
  });

  it("runs Python with numpy under runc, fetching ranges and fewer bytes than the image", async () => {
    await registry.takeRequests();
    const program = "import numpy; print(int(numpy.arange(10).sum()), numpy.__name__)";
    const result = await host.run(["run", archive, "--", "python3", "-c", program]);
    expect(result).toMatchObject({ code: 0, stdout: "45 numpy\n" });

    const blobs = (await registry.takeRequests()).filter(({ uri }) => uri.includes("/blobs/"));
    expect(blobs.length).toBeGreaterThan(5);
    expect(blobs.every(({ status }) => status === 206)).toBe(true);
    const fetched = blobs.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(fetched).toBeGreaterThan(1_000_000);
    expect(fetched).toBeLessThan(imageBytes * 0.6);
  });

  it("runs the second time from the cache, without one request for a blob", async () => {
    await registry.takeRequests();
    // Another program may be read ahead for beyond what the first has needed.
    const program = ["python3", "-c", "import numpy; print(numpy.pi)"];
    const result = await host.run(["run", "--prefetch", "none", archive, "--", ...program]);
    expect(result).toMatchObject({ code: 0, stdout: "3.141592653589793\n" });
    expect((await registry.takeRequests()).filter(({ uri }) => uri.includes("/blobs/"))).toEqual([]);
  });

  it.each(engines)(
    "gives the tree that umoci unpacks, with engine %s: names, types, modes, owners, nlink, sizes, mtimes, xattrs, targets, content",
    async (engine) => {
      const dir = await makeTempDir("compare");
      const mountpoint = await makeTempDir("mnt");
      const unpacked = await dumpTree(await unpackLayout(layout, "debian", path.join(dir, "bundle")));
      await host.ok(["mount", "--engine", engine, archive, mountpoint]);
      try {
        const mounted = await dumpTree(mountpoint);
        expect(mounted.length).toBeGreaterThan(9000);
        if (engine === "native") expect(mounted).toEqual(unpacked);
        else expect(toMilliseconds(mounted)).toEqual(toMilliseconds(unpacked));
        expect(mounted.filter((line) => line.nlink < 1)).toEqual([]);
      } finally {
        await host.ok(["umount", mountpoint]);
      }
    },
  );

  it("has nlink of at least 1 on every directory, through FUSE and through the merged view, and the modes that containers need", async () => {
    const rootfs = await host.json<{
      lower: string;
      merged: string;
      upper: string;
      work: string;
      id: string;
    }>(["rootfs", "mount", archive, "--id", "modes"]);
    try {
      expect(Object.keys(rootfs).sort()).toEqual(["id", "lower", "merged", "upper", "work"]);
      for (const root of [rootfs.lower, rootfs.merged]) {
        const { stdout } = await exec("find", [root, "-type", "d", "-printf", "%n %m %P\\n"], {
          maxBuffer: 2 ** 26,
        });
        const lines = stdout.trim().split("\n");
        expect(lines.length).toBeGreaterThan(500);
        expect(lines.filter((line) => !(Number(line.split(" ")[0]) >= 1))).toEqual([]);
        expect(lines.find((line) => line.endsWith(" tmp"))).toMatch(/^\d+ 1777 tmp$/);
      }
      // The image has a /proc of its own, and a directory that the image has keeps its mode.
      const { stdout } = await exec("stat", ["--format=%a", path.join(rootfs.merged, "proc")]);
      const inImage = await host.json<{ mode: string }>(["stat", archive, "/proc"]);
      expect(stdout.trim().padStart(4, "0")).toBe(inImage.mode);
    } finally {
      await host.ok(["rootfs", "umount", "modes"]);
    }
  });

  it("mounts and lists with the registry stopped, and reads again when it is back", async () => {
    const fresh = await makeSkimHost();
    const mountpoint = await makeTempDir("mnt");
    await registry.stop();
    await fresh.ok(["mount", archive, mountpoint], {
      env: { SKIM_READ_DEADLINE_MS: "1500", SKIM_ATTEMPT_TIMEOUT_MS: "500" },
    });
    try {
      const { stdout } = await exec("find", [mountpoint, "-printf", "x"], { maxBuffer: 2 ** 26 });
      expect(stdout.length).toBeGreaterThan(9000);
      const file = path.join(mountpoint, "etc/debian_version");
      await expect(exec("cat", [file])).rejects.toThrow(/Input\/output error/);
      await registry.restart();
      expect((await exec("cat", [file])).stdout).toMatch(/^12\./);
    } finally {
      await fresh.ok(["umount", mountpoint]);
    }
    expect(await fresh.leftovers()).toEqual([]);
  });

  it("indexes to the same bytes twice, also without kept layer indexes", async () => {
    const dir = await makeTempDir("twice");
    const again = path.join(dir, "again.skim");
    const fresh = await makeSkimHost();
    await fresh.ok(["index", image, "-o", again]);
    expect((await readFile(again)).equals(await readFile(archive))).toBe(true);
  });
});

/** Without what fuse-native cannot keep: nanoseconds. */
function toMilliseconds(lines: readonly DumpLine[]) {
  return lines.map((line) => ({ ...line, mtimeNsec: Math.floor(line.mtimeNsec / 1e6) }));
}
