import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { writeTestImage } from "../support/oci-layout.js";
import { type CliResult, makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);

let dir: string;
let host: SkimHost;
let layout: string;
let archive: string;
const tar = buildTar([
  { path: "etc/", type: "directory" },
  { path: "etc/hello", content: "hello\n" },
]);

beforeAll(async () => {
  dir = await makeTempDir("bad");
  host = await makeSkimHost();
  layout = path.join(dir, "image");
  await writeTestImage(layout, [{ tar }]);
  archive = path.join(dir, "good.skim");
  await host.ok(["index", `oci:${layout}`, "-o", archive]);
});

/** One line, `skim: CODE: ...`, and the exit code of the table. */
function expectRefusal(result: CliResult, code: string, exitCode: number, text: RegExp): void {
  expect(result.stderr).toMatch(new RegExp(`(^|\\n)skim: (${code}): [^\\n]+\\n$`));
  expect(result.stderr).toMatch(text);
  expect(result.code).toBe(exitCode);
}

describe("indexing refuses, and writes nothing:", () => {
  const cases: [string, () => Promise<string>, string, number, RegExp][] = [
    ["a layout that is not there", async () => `oci:${dir}/nothing`, "NOT_FOUND", 3, /nothing/],
    ["a tag that is not there", async () => `oci:${layout}:missing`, "NOT_FOUND", 3, /missing/],
    ["a name that is no image", async () => "https://example.com/x", "USAGE", 2, /http/],
    [
      "a truncated layer",
      () => imageWith({ blob: gzipSync(tar).subarray(0, 60) }),
      "LAYER_CORRUPT",
      6,
      /sha256:/,
    ],
    [
      "a layer with a flipped byte",
      () => imageWith({ blob: flipped(gzipSync(tar), 40) }),
      "LAYER_CORRUPT",
      6,
      /sha256:/,
    ],
    [
      "a wrong diffId",
      () => imageWith({ diffId: `sha256:${"0".repeat(64)}` }),
      "DIFF_ID_MISMATCH",
      6,
      /diff/i,
    ],
    [
      "a foreign layer",
      () => imageWith({ mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" }),
      "LAYER_UNSUPPORTED",
      6,
      /foreign/,
    ],
    [
      "a layer that is no tar",
      () => imageWith({ blob: Buffer.from("hello, this is not a layer at all") }),
      "LAYER_UNSUPPORTED|LAYER_CORRUPT",
      6,
      /sha256:/,
    ],
  ];
  for (const [what, makeImage, code, exitCode, text] of cases) {
    it(what, async () => {
      const output = path.join(dir, "refused.skim");
      const result = await host.run(["index", await makeImage(), "-o", output]);
      expectRefusal(result, code, exitCode, text);
      expect((await readdir(dir)).filter((name) => name.includes("refused"))).toEqual([]);
    });
  }

  it("a platform that the image does not have, with those it has", async () => {
    const result = await host.run([
      "index",
      `oci:${layout}`,
      "--platform",
      "linux/arm64",
      "-o",
      path.join(dir, "x.skim"),
    ]);
    expectRefusal(result, "PLATFORM_NOT_FOUND", 3, /linux\/amd64/);
  });

  it("a manifest whose bytes have another digest", async () => {
    const copy = await makeTempDir("manifest");
    const { manifestDigest } = await writeTestImage(copy, [{ tar }]);
    const file = path.join(copy, "blobs/sha256", manifestDigest.slice(7));
    await writeFile(file, `${await readFile(file, "utf8")} `);
    const result = await host.run(["index", `oci:${copy}`, "-o", path.join(dir, "x.skim")]);
    expect(result.code).toBe(6);
    expect(result.stderr).toMatch(/skim: (DIGEST_MISMATCH|IMAGE_INVALID): .*sha256:/);
  });

  it("a cache directory that cannot be written, with what to do", async () => {
    const result = await host.run(["index", `oci:${layout}`, "--cache-dir", path.join(archive, "below")]);
    expectRefusal(result, "LOCAL_IO", 12, /good\.skim\/below.*--cache-dir/);
  });

  it("an output directory that is not there, before anything is fetched", async () => {
    const result = await host.run(["index", `oci:${layout}`, "-o", path.join(dir, "no/such/dir/x.skim")]);
    expectRefusal(result, "LOCAL_IO", 12, /no\/such\/dir/);
  });
});

describe("mounting refuses, and leaves nothing:", () => {
  const damages: [string, (bytes: Buffer) => Buffer, string, RegExp][] = [
    [
      "a truncated archive",
      (bytes) => bytes.subarray(0, bytes.length - 100),
      "ARCHIVE_DAMAGED",
      /truncated|shorter|size|bytes/,
    ],
    ["an empty file", () => Buffer.alloc(0), "ARCHIVE_DAMAGED", /header|short|empty|archive/],
    [
      "a flipped byte in the inodes",
      (bytes) => flipped(bytes, sectionOffset(bytes, 7) + 8),
      "ARCHIVE_DAMAGED",
      /inodes/,
    ],
    [
      "a flipped byte in the names",
      (bytes) => flipped(bytes, sectionOffset(bytes, 9) + 1),
      "ARCHIVE_DAMAGED",
      /names/,
    ],
    [
      "an archive of a newer version",
      (bytes) => {
        const copy = Buffer.from(bytes);
        copy.writeUInt32LE(3, 8);
        return copy;
      },
      "ARCHIVE_VERSION",
      /version 3/,
    ],
    [
      "a file that is no archive",
      () => Buffer.from("PK\x03\x04 something else entirely".repeat(40)),
      "ARCHIVE_DAMAGED",
      /do not begin as a skim archive/,
    ],
  ];
  for (const [what, damage, code, text] of damages) {
    it(what, async () => {
      const file = path.join(dir, "damaged.skim");
      await writeFile(file, damage(await readFile(archive)));
      const mountpoint = await makeTempDir("mnt");
      const result = await host.run(["mount", file, mountpoint]);
      expectRefusal(result, code, 7, text);
      expect(await host.leftovers()).toEqual([]);
    });
  }

  it("an archive that is not there", async () => {
    expectRefusal(await host.run(["mount", "/nowhere/x.skim", dir]), "NOT_FOUND", 3, /\/nowhere\/x\.skim/);
  });

  it("a mount point that is not there, is a file, or is not empty", async () => {
    const file = path.join(dir, "a-file");
    await writeFile(file, "x");
    const full = await makeTempDir("full");
    await writeFile(path.join(full, "x"), "x");
    expectRefusal(await host.run(["mount", archive, path.join(dir, "absent")]), "MOUNT_FAILED", 8, /absent/);
    expectRefusal(await host.run(["mount", archive, file]), "MOUNT_FAILED", 8, /not a directory/);
    expectRefusal(await host.run(["mount", archive, full]), "MOUNT_FAILED", 8, /empty/);
    expect(await host.leftovers()).toEqual([]);
  });

  it("a mount point that is mounted already, which stays as it is", async () => {
    const mountpoint = await makeTempDir("mnt");
    await host.ok(["mount", archive, mountpoint]);
    try {
      expectRefusal(await host.run(["mount", archive, mountpoint]), "MOUNT_FAILED|IN_USE", 8, /mount/);
      expect((await exec("cat", [path.join(mountpoint, "etc/hello")])).stdout).toBe("hello\n");
    } finally {
      await host.ok(["umount", mountpoint]);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("an id that is taken", async () => {
    await host.ok(["rootfs", "mount", archive, "--id", "twice"]);
    try {
      expectRefusal(await host.run(["rootfs", "mount", archive, "--id", "twice"]), "IN_USE", 10, /twice/);
    } finally {
      await host.ok(["rootfs", "umount", "twice"]);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("a cache directory below a file: its record goes too", async () => {
    const file = path.join(dir, "no-directory");
    await writeFile(file, "");
    const refused = await host.run([
      ...["rootfs", "mount", archive, "--id", "nowhere", "--cache-dir", path.join(file, "cache")],
    ]);
    expectRefusal(refused, "LOCAL_IO", 12, /no-directory/);
    expect(await host.json(["ps"])).toEqual([]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("a server that cannot write its log, in one line", async () => {
    const mountpoint = path.join(dir, "unlogged");
    await mkdir(mountpoint);
    await mkdir(path.join(host.runDir, "logs/unlogged.log"), { recursive: true });
    const refused = await host.run(["mount", archive, mountpoint, "--id", "unlogged"]);
    expectRefusal(refused, "LOCAL_IO", 12, /log .*unlogged\.log of a mount server cannot be written: EISDIR/);
    expect(refused.stderr.trim().split("\n")).toHaveLength(1);
    expect(await host.leftovers()).toEqual([]);
  });

  it("an upper that another rootfs has", async () => {
    const upper = path.join(await makeTempDir("upper"), "upper");
    await host.ok(["rootfs", "mount", archive, "--id", "one", "--upper", upper]);
    try {
      expectRefusal(
        await host.run(["rootfs", "mount", archive, "--id", "two", "--upper", upper]),
        "IN_USE",
        10,
        /upper/,
      );
    } finally {
      await host.ok(["rootfs", "umount", "one"]);
    }
    expect((await stat(upper)).isDirectory()).toBe(true);
    expect(await host.leftovers()).toEqual([]);
  });

  it("to unmount what is in use, naming who uses it", async () => {
    const mountpoint = await makeTempDir("mnt");
    await host.ok(["mount", archive, mountpoint]);
    // The file is held by a child of this process, never by this process.
    const holder = execFile("sleep", ["60"], { cwd: path.join(mountpoint, "etc") });
    try {
      expectRefusal(await host.run(["umount", mountpoint]), "IN_USE", 10, /sleep/);
    } finally {
      holder.kill("SIGKILL");
      await new Promise((resolve) => holder.once("exit", resolve));
    }
    await host.ok(["umount", mountpoint]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("to unmount what is no mount of skim", async () => {
    expectRefusal(await host.run(["umount", dir]), "NOT_FOUND", 3, /no skim mount/);
    expectRefusal(await host.run(["rootfs", "umount", "nobody"]), "NOT_FOUND", 3, /nobody/);
  });
});

describe("what goes on although something is wrong:", () => {
  it("reading with a full cache disk", async () => {
    const full = await makeTempDir("full");
    await exec("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", full]);
    const mountpoint = await makeTempDir("mnt");
    try {
      const big = buildTar([{ path: "big", content: randomLike(3 * 1024 * 1024) }]);
      const image = path.join(dir, "big-image");
      await writeTestImage(image, [{ tar: big }]);
      const bigArchive = path.join(dir, "big.skim");
      await host.ok(["index", `oci:${image}`, "-o", bigArchive]);
      await host.ok(["mount", bigArchive, mountpoint, "--cache-dir", full]);
      const { stdout } = await exec("sha256sum", [path.join(mountpoint, "big")]);
      expect(stdout.split(" ")[0]).toBe(
        createHash("sha256")
          .update(randomLike(3 * 1024 * 1024))
          .digest("hex"),
      );
      await host.ok(["umount", mountpoint, "--cache-dir", full]);
    } finally {
      await exec("umount", ["-l", full]);
    }
    expect(await host.leftovers()).toEqual([]);
  });

  it("unmounting a mount whose server was killed", async () => {
    const mountpoint = await makeTempDir("mnt");
    const { pid } = await host.json<{ pid: number }>(["mount", archive, mountpoint]);
    process.kill(pid, "SIGKILL");
    await exec("ls", [mountpoint]).catch(() => {});
    await host.ok(["umount", mountpoint]);
    expect(await readdir(mountpoint)).toEqual([]);
    expect(await host.leftovers()).toEqual([]);
  });
});

async function imageWith(layer: { blob?: Uint8Array; diffId?: string; mediaType?: string }): Promise<string> {
  const image = await makeTempDir("image");
  await writeTestImage(image, [{ tar, ...layer }]);
  return `oci:${image}`;
}

function flipped(bytes: Uint8Array, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 0x40;
  return copy;
}

/** Where a section starts; FORMAT.md, "Section table entry". */
function sectionOffset(bytes: Buffer, type: number): number {
  const count = bytes.readUInt32LE(12);
  for (let i = 0; i < count; i++) {
    const entry = 64 + 32 * i;
    if (bytes.readUInt32LE(entry) === type) return Number(bytes.readBigUInt64LE(entry + 8));
  }
  throw new Error(`no section ${type}`);
}

/** Bytes that do not compress, the same each time. */
function randomLike(length: number): Buffer {
  const pieces: Buffer[] = [];
  for (let i = 0; i * 32 < length; i++) pieces.push(createHash("sha256").update(String(i)).digest());
  return Buffer.concat(pieces).subarray(0, length);
}
