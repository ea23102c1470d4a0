import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { silentLogger } from "../../src/base/logger.js";
import { tryLockFile } from "../../src/cache/file-lock.js";
import { TemporaryFiles } from "../../src/cache/temporary-files.js";
import { digestOf } from "../../src/image/digest.js";
import { loadNative } from "../../src/native/load.js";
import { checkExtractedLayer, ExtractedLayers } from "../../src/unpack/extracted-layers.js";
import { ExtractedStock } from "../../src/unpack/extracted-stock.js";
import { layerIndex } from "../archive/sample-archive.js";
import { makeTempDir } from "../support/temp-dir.js";

const native = loadNative();
let cacheDir: string;
let layers: ExtractedLayers;
let stock: ExtractedStock;
beforeEach(async () => {
  cacheDir = await makeTempDir("stock");
  layers = new ExtractedLayers({ cacheDir, native, logger: silentLogger });
  stock = new ExtractedStock(cacheDir, native);
});

const diffId = digestOf(Buffer.from("layer"));

/** A layer without files. */
async function obtain() {
  return await layers.obtain(diffId, async () => ({
    index: { ...layerIndex("empty", "none", 0, []), diffId },
    dataCrc32: 0,
  }));
}

test("a layer is listed with its blocks and its last use, and removed unless somebody has it open", async () => {
  await (await obtain()).close();
  const [before] = await stock.list();
  expect(before).toMatchObject({ kind: "extracted", digest: diffId, inUse: false });
  expect(before!.diskBytes).toBeGreaterThan(0);
  expect(Math.abs(before!.lastUsedMs - Date.now())).toBeLessThan(60_000);
  execFileSync("touch", ["-d", "@1000", path.join(before!.directory, "complete")]);
  expect((await stock.list())[0]!.lastUsedMs).toBe(1_000_000);

  const open = await obtain();
  expect(open.reused).toBe(true);
  const [listed] = await stock.list();
  expect(listed).toMatchObject({ inUse: true });
  expect(listed!.lastUsedMs).toBeGreaterThan(1_000_000);
  expect(await listed!.remove()).toBe("busy");
  await open.close();
  expect(await checkExtractedLayer(listed!.directory, diffId)).toBe(true);
  expect(await listed!.remove()).toBe("removed");
  expect(await stock.list()).toEqual([]);
  expect((await obtain()).reused).toBe(false);
});

test("what is being extracted is left alone, what a killed process left is removed, half a layer is none", async () => {
  await (await obtain()).close();
  const [layer] = await stock.list();
  const unfinished = `${layer!.directory}.0123456789ab.tmp`;
  await mkdir(unfinished);
  writeFileSync(path.join(unfinished, "0"), "half");
  const lock = await tryLockFile(`${layer!.directory}.lock`, native);
  expect(await stock.removeLeftovers()).toBe(0);
  expect(await layer!.remove()).toBe("busy");
  await lock!.release();
  expect(await stock.removeLeftovers()).toBe(1);
  expect(existsSync(unfinished)).toBe(false);
  writeFileSync(path.join(layer!.directory, "0"), "more than there was");
  expect(await checkExtractedLayer(layer!.directory, diffId)).toBe(false);
  expect(await layer!.remove()).toBe("removed");
});

test("temporary files beside archives and indexes go when they are old", async () => {
  await mkdir(path.join(cacheDir, "archives/sha256"), { recursive: true });
  const inside = (name: string) => path.join(cacheDir, "archives/sha256", name);
  const names = [".skim-12-0011.tmp", "00.1048576.77.aabb.tmp", "11.json.tmp-0011", "22.skim", "33.tmp.skim"];
  for (const name of names) writeFileSync(inside(name), "");
  const files = new TemporaryFiles([path.join(cacheDir, "archives"), path.join(cacheDir, "none")]);
  expect(await files.removeLeftovers(Date.now())).toBe(0);
  expect(await files.removeLeftovers(Date.now() + 2 * 60 * 60 * 1000)).toBe(3);
  expect(readdirSync(inside("")).sort()).toEqual(["22.skim", "33.tmp.skim"]);
});
