import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { addGzipImage } from "../../bench/support/gzip-layers.js";
import { cutTar } from "../../bench/support/tar-cut.js";
import { buildTar, paxMember, tarMember } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const files = Array.from({ length: 40 }, (_, i) => ({
  path: `file${i}`,
  content: Buffer.alloc(3000 + 100 * i, i),
}));

describe("a tar that is cut into layers", () => {
  it("keeps every member whole and in order, extended headers with the member they belong to", async () => {
    const dir = await makeTempDir();
    const file = path.join(dir, "whole.tar");
    const long = [
      paxMember("x", [["path", "a-name-of-its-own"]]),
      tarMember({ path: "short", content: Buffer.from("x") }),
    ];
    const members = files.map((spec) => tarMember(spec));
    const whole = buildTar([...members.slice(0, 20), ...long, ...members.slice(20)]);
    await writeFile(file, whole);
    for (const parts of [1, 2, 7, 8]) {
      const ranges = await cutTar(file, parts);
      expect(ranges).toHaveLength(parts);
      expect(ranges[0]!.start).toBe(0);
      for (const [at, { start }] of ranges.entries()) if (at > 0) expect(start).toBe(ranges[at - 1]!.end);
      const joined = Buffer.concat(ranges.map(({ start, end }) => whole.subarray(start, end)));
      expect(joined.equals(whole.subarray(0, joined.length))).toBe(true);
      // What is left is the end of the tar alone.
      expect(whole.subarray(joined.length).every((byte) => byte === 0)).toBe(true);
      // None begins at the member behind an extended header.
      const second = Buffer.concat(members.slice(0, 20)).length + long[0]!.length;
      expect(ranges.map(({ start }) => start)).not.toContain(second);
    }
  });

  it("becomes gzip layers whose digests are those of their bytes", async () => {
    const dir = await makeTempDir();
    const file = path.join(dir, "whole.tar");
    await writeFile(file, buildTar(files));
    const parts = (await cutTar(file, 3)).map((range) => ({ file, range }));
    const layout = path.join(dir, "layout");
    await addGzipImage(layout, "one", parts, ["sh"], new AbortController().signal);

    const read = async (digest: string) =>
      await readFile(path.join(layout, "blobs/sha256", digest.slice("sha256:".length)));
    const index = JSON.parse(await readFile(path.join(layout, "index.json"), "utf8"));
    const manifest = JSON.parse((await read(index.manifests[0].digest)).toString());
    const config = JSON.parse((await read(manifest.config.digest)).toString());
    const { createHash } = await import("node:crypto");
    const sha256 = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    expect(config.config.Cmd).toEqual(["sh"]);
    expect(manifest.layers).toHaveLength(3);
    for (const [at, layer] of manifest.layers.entries()) {
      const blob = await read(layer.digest);
      expect(layer.size).toBe(blob.length);
      expect(sha256(blob)).toBe(layer.digest);
      expect(sha256(gunzipSync(blob))).toBe(config.rootfs.diff_ids[at]);
    }
  });
});
