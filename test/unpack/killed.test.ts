import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { cliFile, resultOf } from "../support/skim-cli.js";
import { dumpTree } from "../support/tree-dump.js";
import { makeUnpackPlace, type UnpackPlace } from "./unpack-place.js";

let place: UnpackPlace;
const content = randomBytes(2_000_000);
const layers = [0, 1, 2].map((layer) => [
  { path: `layer${layer}/big`, content: Buffer.concat([content, Buffer.from([layer])]) },
  ...Array.from({ length: 400 }, (_, i) => ({
    path: `layer${layer}/d${i % 20}/f${i}`,
    content: `${layer} ${i}`,
  })),
]);
beforeAll(async () => {
  place = await makeUnpackPlace();
  await place.add("old", [[{ path: "old", content: "old" }]]);
  await place.add("new", layers);
});
afterAll(() => place.registry.close());

const start = (tag: string, mode: string) =>
  spawn(
    process.execPath,
    [
      cliFile,
      "unpack",
      place.name(tag),
      path.join(place.trees, mode),
      "--mode",
      mode,
      "--json",
      "--cache-dir",
      place.cacheDir,
    ],
    { stdio: ["pipe", "pipe", "pipe"] },
  );

it.each(["copy", "extract"])(
  "%s that is killed at any time leaves the old tree or the new, and the next call ends right",
  async (mode) => {
    await place.unpack("old", mode);
    const seen = new Set<string>();
    // From before the program has begun to after it has ended.
    for (let delayMs = 150; delayMs <= 950; delayMs += 80) {
      const child = start("new", mode);
      const ended = new Promise((resolve) => child.once("close", resolve));
      const timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
      await ended;
      clearTimeout(timer);
      const names = (await readdir(path.join(place.trees, mode))).sort().join(" ");
      seen.add(names);
      expect(["old", "layer0 layer1 layer2"]).toContain(names);
      if (names !== "old") {
        expect((await dumpTree(path.join(place.trees, mode))).length).toBe(1 + 3 * (1 + 1 + 20 + 400));
        await place.unpack("old", mode);
      }
    }
    expect(seen).toContain("old");

    const { code, stderr } = await resultOf(start("new", mode));
    expect([code, stderr]).toEqual([0, ""]);
    for (const layer of [0, 1, 2]) {
      const found = createHash("sha256").update(
        await readFile(path.join(place.trees, mode, `layer${layer}/big`)),
      );
      const expected = createHash("sha256")
        .update(content)
        .update(Buffer.from([layer]));
      expect(found.digest("hex")).toBe(expected.digest("hex"));
    }
    // Nothing is left of those that were killed, neither beside the tree nor in the store.
    expect((await place.names()).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    const stored = await readdir(path.join(place.cacheDir, "layers/v1/sha256")).catch(() => []);
    expect(stored.filter((name) => name.endsWith(".tmp"))).toEqual([]);
  },
);
