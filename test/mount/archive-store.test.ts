import { copyFile, readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openArchive } from "../../src/archive/archive-reader.js";
import { fileIdentityOf } from "../../src/archive/tree-proof.js";
import { openChecked } from "../../src/mount/archive-store.js";
import { indexImage } from "../../src/mount/index-image.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

describe("an archive that was checked", () => {
  let dir: string;
  let archive: string;

  beforeAll(async () => {
    dir = await makeTempDir("proof");
    const layout = path.join(dir, "image");
    await writeTestImage(layout, [{ tar: buildTar([{ path: "a", content: "1" }]) }]);
    archive = path.join(dir, "image.skim");
    await (await makeSkimHost()).ok(["index", `oci:${layout}`, "-o", archive]);
  });

  const notes = async (cacheDir: string) =>
    await readdir(path.join(cacheDir, "checked-archives")).catch(() => []);

  it("is not checked again, as long as its file is the same", async () => {
    const cacheDir = await makeTempDir("proof");
    const first = await openChecked(archive, cacheDir);
    await first.close();
    const [note] = await notes(cacheDir);
    // A note that only a second check would correct.
    const noteFile = path.join(cacheDir, "checked-archives", note!);
    const proof = JSON.parse(await readFile(noteFile, "utf8"));
    await writeFile(noteFile, JSON.stringify({ ...proof, totals: { ...proof.totals, fileCount: 77 } }));
    const second = await openChecked(archive, cacheDir);
    await second.close();
    expect(second.totals.fileCount).toBe(77);
    // Whatever touches the file, even with its times set back, makes it another one.
    const { atime, mtime } = await stat(archive);
    await utimes(archive, atime, mtime);
    const third = await openChecked(archive, cacheDir);
    await third.close();
    expect(third.totals.fileCount).toBe(first.totals.fileCount);
  });

  it("is not even checked by the first who opens it, where the cache is that of who indexed it", async () => {
    const cacheDir = await makeTempDir("proof");
    const indexed = await indexImage({ image: `oci:${path.join(dir, "image")}`, settings: { cacheDir } });
    const [note] = await notes(cacheDir);
    const noteFile = path.join(cacheDir, "checked-archives", note!);
    const proof = JSON.parse(await readFile(noteFile, "utf8"));
    const checked = await openArchive(indexed.archive);
    await checked.close();
    expect(proof).toEqual(checked.treeProof);
    await writeFile(noteFile, JSON.stringify({ ...proof, totals: { ...proof.totals, fileCount: 77 } }));
    const first = await openChecked(indexed.archive, cacheDir);
    await first.close();
    expect(first.totals.fileCount).toBe(77);
  });

  it("is checked in full where the proof is another file's, torn, or cannot be kept", async () => {
    const copy = path.join(dir, "copy.skim");
    await copyFile(archive, copy);
    const original = await openArchive(archive);
    const opened = await openArchive(copy, {
      proof: { ...original.treeProof!, totals: { ...original.totals, fileCount: 77 } },
    });
    expect(opened.totals).toEqual(original.totals);
    const cacheDir = await makeTempDir("proof");
    await (await openChecked(archive, cacheDir)).close();
    const [note] = await notes(cacheDir);
    await writeFile(path.join(cacheDir, "checked-archives", note!), "{ torn");
    const again = await openChecked(archive, cacheDir);
    const without = await openChecked(archive, path.join(copy, "below-a-file"));
    expect([again.totals, without.totals]).toEqual([original.totals, original.totals]);
    for (const one of [original, opened, again, without]) await one.close();
  });

  it("still has the CRC of its sections compared", async () => {
    const cacheDir = await makeTempDir("proof");
    const copy = path.join(dir, "damaged.skim");
    await copyFile(archive, copy);
    await (await openChecked(copy, cacheDir)).close();
    const [note] = await notes(cacheDir);
    const noteFile = path.join(cacheDir, "checked-archives", note!);
    const bytes = await readFile(copy);
    // Behind the header and the table of sections.
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(copy, bytes);
    // As if the change had not been noticed.
    const proof = JSON.parse(await readFile(noteFile, "utf8"));
    const file = fileIdentityOf(await stat(copy, { bigint: true }));
    await writeFile(noteFile, JSON.stringify({ ...proof, file }));
    await expect(openChecked(copy, cacheDir)).rejects.toMatchObject({ code: "ARCHIVE_DAMAGED" });
  });
});
