import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { type Digest, digestOf } from "../../src/image/digest.js";
import type { LayerIndex } from "../../src/layer/layer-index.js";
import { LayerStore } from "../../src/layer/layer-store.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { readTar } from "./tar-reading.js";

const tar = buildTar([
  { path: "./", type: "directory", mode: 0o711 },
  { path: "file", content: "abc", xattrs: { "user.a": Buffer.from([0, 0xff, 0x80]), "user.empty": "" } },
  { path: "empty" },
  { path: Buffer.from([0x66, 0xff, 0x0a]), uid: 4_000_000_000, gid: 65536, mtimeSec: -62_135_596_800 },
  { path: "p".repeat(3000).replace(/.{200}/g, "$&/"), mtimeSec: 2 ** 52, mtimeNsec: 999_999_999 },
  { path: "soft", link: Buffer.alloc(4095, 0xe9) },
  { path: "hard", type: "hardlink", link: "file" },
  { path: "dev", type: "block", major: 4095, minor: 0xfffff },
  { path: "char", type: "character", major: 1, minor: 3 },
  { path: "fifo", type: "fifo" },
  {
    path: "sparse",
    content: "x".repeat(15),
    pax: [
      ["GNU.sparse.map", "0,5,100,10"],
      ["GNU.sparse.size", String(2 ** 52)],
    ],
  },
]);

const index: LayerIndex = {
  digest: digestOf(tar),
  diffId: digestOf(Buffer.from("diff")),
  compression: "gzip",
  compressedBytes: 2 ** 40,
  uncompressedBytes: 2 ** 45 + 1,
  trailingBytes: 5,
  spanRecords: new Uint8Array(160).fill(7),
  windows: new Uint8Array([1, 2, 3]),
  entries: readTar(tar).entries,
  warnings: ["one \u00e4", "two"],
};
const SPAN = 65536;

async function storedFile(cacheDir: string): Promise<string> {
  const files = (await readdir(cacheDir, { recursive: true, withFileTypes: true })).filter((f) => f.isFile());
  expect(files).toHaveLength(1);
  return path.join(files[0]!.parentPath, files[0]!.name);
}

test("what was saved is loaded, field by field, by another store on the same directory", async () => {
  const dir = await makeTempDir("store");
  await new LayerStore(dir).save(index, SPAN);
  expect(await new LayerStore(dir).load(index.digest, SPAN)).toEqual(index);
  expect(path.relative(dir, await storedFile(dir))).toMatch(
    /^layer-indexes\/v2\/sha256\/[0-9a-f]{64}\.65536$/,
  );
});

test("another digest, another span size and an empty directory have nothing", async () => {
  const dir = await makeTempDir("store");
  const store = new LayerStore(dir);
  expect(await store.load(index.digest, SPAN)).toBeUndefined();
  await store.save(index, SPAN);
  expect(await store.load(index.digest, SPAN * 2)).toBeUndefined();
  expect(await store.load(digestOf(Buffer.from("other")), SPAN)).toBeUndefined();
  expect(await store.load(index.digest, SPAN)).toBeDefined();
});

test("two saves give the same bytes, and a hundred at once leave one whole file", async () => {
  const [one, two] = [await makeTempDir("store"), await makeTempDir("store")];
  await new LayerStore(one).save(index, SPAN);
  await Promise.all(Array.from({ length: 100 }, () => new LayerStore(two).save(index, SPAN)));
  expect(await readFile(await storedFile(one))).toEqual(await readFile(await storedFile(two)));
});

test("a file that was flipped anywhere or cut anywhere is as good as absent, and removed", async () => {
  const dir = await makeTempDir("store");
  const store = new LayerStore(dir);
  await store.save(index, SPAN);
  const file = await storedFile(dir);
  const bytes = await readFile(file);
  for (let at = 0; at < bytes.length; at += 97) {
    const flipped = Buffer.from(bytes);
    flipped[at]! ^= 1;
    await writeFile(file, flipped);
    expect(await store.load(index.digest, SPAN)).toBeUndefined();
    await expect(stat(file)).rejects.toMatchObject({ code: "ENOENT" });
  }
  for (const cut of [0, 1, 8, 12, 40, 100, bytes.length - 33, bytes.length - 1]) {
    await writeFile(file, bytes);
    await truncate(file, cut);
    expect(await store.load(index.digest, SPAN)).toBeUndefined();
    await expect(stat(file)).rejects.toMatchObject({ code: "ENOENT" });
  }
  await store.save(index, SPAN);
  expect(await store.load(index.digest, SPAN)).toEqual(index);
});

test("a file of another format, or of another layer, with a right sha256 is not used", async () => {
  const dir = await makeTempDir("store");
  const store = new LayerStore(dir);
  await store.save(index, SPAN);
  const file = await storedFile(dir);
  const bytes = (await readFile(file)).subarray(0, -32);
  const rewritten = (from: string, to: string) => {
    const body = Buffer.from(bytes.toString("latin1").replace(from, to), "latin1");
    return Buffer.concat([body, createHash("sha256").update(body).digest()]);
  };
  expect(
    rewritten("x", "x").equals(Buffer.concat([bytes, createHash("sha256").update(bytes).digest()])),
  ).toBe(true);
  for (const [from, to] of [
    ['"format":2', '"format":3'],
    [index.digest, digestOf(Buffer.from("other"))],
    ['"spanBytes":65536', '"spanBytes":65537'],
    ['"entries":11', '"entries":12'],
    ['"entries":11', '"entries":10'],
    ['{"format"', 'x"format"'],
  ]) {
    const changed = rewritten(from!, to!);
    expect(changed.subarray(0, -32).equals(bytes)).toBe(false);
    await writeFile(file, changed);
    expect(await store.load(index.digest, SPAN)).toBeUndefined();
  }
});

test("a directory that cannot be written or read is no error, and leaves nothing half-made", async () => {
  const dir = await makeTempDir("store");
  await writeFile(path.join(dir, "layer-indexes"), "a file in the way");
  const store = new LayerStore(dir);
  await store.save(index, SPAN);
  expect(await store.load(index.digest, SPAN)).toBeUndefined();

  // A directory where the file belongs: it is written, cannot be renamed, and is removed again.
  const blocked = await makeTempDir("store");
  const name = index.digest.replace("sha256:", "");
  await mkdir(path.join(blocked, `layer-indexes/v2/sha256/${name}.${SPAN}/x`), { recursive: true });
  await new LayerStore(blocked).save(index, SPAN);
  expect(await readdir(path.join(blocked, "layer-indexes/v2/sha256"))).toEqual([`${name}.${SPAN}`]);
  expect(await new LayerStore(blocked).load(index.digest, SPAN)).toBeUndefined();
});

test("sha512 digests have a place of their own", async () => {
  const dir = await makeTempDir("store");
  const digest = digestOf(tar, "sha512") as Digest;
  await new LayerStore(dir).save({ ...index, digest }, SPAN);
  expect(await new LayerStore(dir).load(digest, SPAN)).toEqual({ ...index, digest });
  expect(await storedFile(dir)).toMatch(/sha512\/[0-9a-f]{128}\.65536$/);
});
