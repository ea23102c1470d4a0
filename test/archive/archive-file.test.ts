import { execFileSync } from "node:child_process";
import {
  symlink as makeSymlink,
  mkdir,
  readdir,
  readFile,
  rename,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openArchive } from "../../src/archive/archive-reader.js";
import { encodeArchive, writeArchive } from "../../src/archive/archive-writer.js";
import { describeArchive } from "../../src/archive/inspect-archive.js";
import { verifyArchive } from "../../src/archive/verify-archive.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  contentsOf,
  directory,
  encoded,
  gzipLayer,
  layerIndex,
  plainLayer,
  sampleContents,
  sampleTree,
} from "./sample-archive.js";
import { walkArchive } from "./walk-archive.js";

let dir: string;
beforeAll(async () => {
  dir = await makeTempDir("archive");
});

describe("an archive in a file", () => {
  it("is opened, walked, verified and closed, and has the bytes that were encoded", async () => {
    const file = path.join(dir, "sample.skim");
    const { archiveBytes } = await writeArchive(file, encodeArchive(sampleContents()));
    expect(await readFile(file)).toEqual(encoded(sampleContents()));
    const archive = await openArchive(file);
    expect(walkArchive(archive)).toHaveLength(15);
    expect(archive.archiveBytes).toBe(archiveBytes);
    expect((await stat(file)).size).toBe(archiveBytes);
    expect(await verifyArchive(archive, { label: file })).toMatchObject({ windows: 1 });
    await archive.close();
    await archive.close();
    expect(archive.inode(1).nlink).toBe(5);
    expect(() => archive.window(2)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
  });

  it("is replaced in one step, and readers of the old one keep it", async () => {
    const file = path.join(dir, "replaced.skim");
    await writeArchive(file, encodeArchive(sampleContents()));
    const old = await openArchive(file);
    await writeArchive(file, encodeArchive(contentsOf(directory(), [])));
    const now = await openArchive(file);
    expect(now.inodeCount).toBe(1);
    expect(Buffer.from(old.window(2))).toEqual(Buffer.from(gzipLayer.windows));
    await old.close();
    await now.close();
  });

  it("may have a name of 255 bytes", async () => {
    const file = path.join(dir, `${"n".repeat(250)}.skim`);
    await writeArchive(file, encodeArchive(contentsOf(directory(), [])));
    await (await openArchive(file)).close();
  });

  it("leaves no file open when it is refused", async () => {
    const file = path.join(dir, "truncated.skim");
    await writeFile(file, encoded(sampleContents()).subarray(0, -64));
    const openFiles = async () => (await readdir("/proc/self/fd")).length;
    const before = await openFiles();
    for (let i = 0; i < 20; i++) {
      await expect(openArchive(file)).rejects.toMatchObject({ code: "ARCHIVE_DAMAGED" });
    }
    expect(await openFiles()).toBe(before);
  });

  it("that shrinks while it is open is noticed when a window is wanted", async () => {
    const file = path.join(dir, "shrinking.skim");
    await writeArchive(file, encodeArchive(sampleContents()));
    const archive = await openArchive(file);
    await truncate(file, 100);
    expect(() => archive.window(2)).toThrow(expect.objectContaining({ code: "ARCHIVE_DAMAGED" }));
    await archive.close();
  });

  it("of which the table promises more than the file has takes no memory for it", async () => {
    const file = path.join(dir, "promising.skim");
    const bytes = encoded(sampleContents());
    bytes.writeBigUInt64LE(0xffff_ffc0n, 64 + 6 * 32 + 16);
    await writeFile(file, bytes);
    const before = process.memoryUsage().arrayBuffers;
    await expect(openArchive(file)).rejects.toMatchObject({ code: "ARCHIVE_DAMAGED" });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
  });

  it("is told from a missing file, a directory, and a FIFO that nobody writes to", async () => {
    await expect(openArchive(path.join(dir, "none"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(openArchive(dir)).rejects.toMatchObject({
      code: "LOCAL_IO",
      message: expect.stringMatching(/not a regular file/),
    });
    const fifo = path.join(dir, "fifo");
    execFileSync("mkfifo", [fifo]);
    await expect(openArchive(fifo)).rejects.toMatchObject({ code: "LOCAL_IO" });
    const loop = path.join(dir, "loop");
    await makeSymlink("loop", loop);
    await expect(openArchive(loop)).rejects.toMatchObject({ code: "LOCAL_IO" });
  });

  it("is not opened when its caller has given up", async () => {
    const file = path.join(dir, "cancelled.skim");
    await writeArchive(file, encodeArchive(sampleContents()));
    const reason = new Error("enough");
    await expect(openArchive(file, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("writing that fails", () => {
  it("leaves nothing behind, and what was there as it was", async () => {
    const target = path.join(dir, "kept");
    await mkdir(path.join(target, "directory.skim", "full"), { recursive: true });
    await expect(
      writeArchive(path.join(target, "directory.skim"), encodeArchive(sampleContents())),
    ).rejects.toMatchObject({
      code: "LOCAL_IO",
    });
    const reason = new Error("enough");
    const file = path.join(target, "archive.skim");
    await writeFile(file, "before");
    await expect(
      writeArchive(file, encodeArchive(sampleContents()), { signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
    expect(await readFile(file, "utf8")).toBe("before");
    expect((await readdir(target)).sort()).toEqual(["archive.skim", "directory.skim"]);
  });

  it("says so where there is no directory", async () => {
    await expect(
      writeArchive(path.join(dir, "no", "such.skim"), encodeArchive(sampleContents())),
    ).rejects.toMatchObject({
      code: "LOCAL_IO",
      message: expect.stringMatching(/no\/such\.skim could not be written/),
    });
  });

  it("by two writers at once gives one whole archive", async () => {
    const file = path.join(dir, "raced.skim");
    await Promise.all(Array.from({ length: 5 }, () => writeArchive(file, encodeArchive(sampleContents()))));
    await (await openArchive(file)).close();
    expect((await readdir(dir)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

describe("describeArchive", () => {
  it("says how each layer can be read, and what the archive's bytes are", async () => {
    const single = layerIndex("single", "zstd", 900, [
      { length: 400, compressedStart: 0, compressedEnd: 900 },
      { length: 400, restart: 0, compressedStart: 0, compressedEnd: 900 },
    ]);
    const short = layerIndex("short", "zstd", 90, [{ length: 40, compressedStart: 0, compressedEnd: 90 }]);
    const file = path.join(dir, "described.skim");
    await writeArchive(
      file,
      encodeArchive(contentsOf(sampleTree(), [gzipLayer, plainLayer, single, short], { warnings: ["odd"] })),
    );
    const archive = await openArchive(file);
    const description = describeArchive(archive);
    await archive.close();
    expect(
      description.layers.map(({ access, compression, restarts, windowBytes }) => [
        access,
        compression,
        restarts,
        windowBytes,
      ]),
    ).toEqual([
      ["ranges", "gzip", 2, gzipLayer.windows.length],
      ["ranges", "none", 2, 0],
      ["whole", "zstd", 1, 0],
      ["ranges", "zstd", 1, 0],
    ]);
    expect(description).toMatchObject({
      reference: "registry.example/app:v1",
      warnings: ["odd"],
      windowBytes: gzipLayer.windows.length,
      metadataBytes: description.archiveBytes - gzipLayer.windows.length,
      inodeCount: 14,
      hasXattrs: true,
      totals: { setuidCount: 1, fileCount: 5 },
    });
    expect(description.sections.map(({ name, records }) => [name, records])).toContainEqual(["inodes", 14]);
    expect(JSON.parse(JSON.stringify(description))).toEqual(description);
  });
});

it("an archive that is moved away is still read", async () => {
  const file = path.join(dir, "moved.skim");
  await writeArchive(file, encodeArchive(sampleContents()));
  const archive = await openArchive(file);
  await rename(file, path.join(dir, "elsewhere.skim"));
  expect(archive.window(2).length).toBe(gzipLayer.windows.length);
  await archive.close();
});
