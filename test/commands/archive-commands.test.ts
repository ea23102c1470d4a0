import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { mediaTypes } from "../../src/image/media-types.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { zstdFixture } from "../support/zstd.js";

describe("commands that look into an archive", () => {
  let host: SkimHost;
  let archive: string;
  let layout: string;
  const big = Buffer.alloc(10_000_000, "0123456789abcdef\n");

  beforeAll(async () => {
    const dir = await makeTempDir("look");
    host = await makeSkimHost();
    layout = path.join(dir, "image");
    archive = path.join(dir, "image.skim");
    const tar = buildTar([
      { path: "etc/", type: "directory" },
      {
        path: "etc/hello",
        content: "hello\n",
        mode: 0o640,
        uid: 5,
        gid: 6,
        mtimeSec: 1_600_000_000,
        mtimeNsec: 123_456_789,
      },
      { path: "etc/link", type: "symlink", link: "hello" },
      { path: "bin/", type: "directory" },
      { path: "bin/su", content: "#!", mode: 0o4755, xattrs: { "user.note": "x" } },
      { path: Buffer.from("odd\xff name", "latin1"), content: "odd\n" },
      { path: "back\\slash", content: "slash\n" },
      { path: "null", type: "character", major: 1, minor: 3 },
    ]);
    const zstdTar = buildTar([{ path: "big", content: big }]);
    await writeTestImage(layout, [
      { tar },
      { tar: zstdTar, blob: zstdFixture(zstdTar), mediaType: mediaTypes.ociLayerZstd },
    ]);
  });

  it("index prints what it made", async () => {
    const indexed = await host.json(["index", `oci:${layout}`, "-o", archive]);
    const { manifests } = JSON.parse(await readFile(path.join(layout, "index.json"), "utf8"));
    expect(Object.keys(indexed)).toEqual([
      "archive",
      "manifestDigest",
      "platform",
      "layers",
      "files",
      "compressedBytes",
      "uncompressedBytes",
      "archiveBytes",
      "startSpans",
      "startBytes",
      "durationMs",
    ]);
    expect(indexed).toMatchObject({
      archive,
      manifestDigest: manifests[0].digest,
      platform: "linux/amd64",
      layers: 2,
      files: 10,
      archiveBytes: (await readFile(archive)).length,
    });
  });

  it("ls lists names, and with --long their attributes", async () => {
    expect(await host.ok(["ls", archive])).toBe("back\\\\slash\nbig\nbin\netc\nnull\nodd\\xff name\n");
    expect(await host.ok(["ls", "-l", archive, "/etc"])).toBe(
      "-rw-r-----  1  5  6  6  2020-09-13 12:26:40  hello\nlrwxrwxrwx  1  0  0  5  2023-11-14 22:13:20  link -> hello\n",
    );
    expect(await host.json(["ls", archive, "/bin/su"])).toMatchObject([
      { type: "file", mode: "4755", size: 2 },
    ]);
  });

  it("stat tells all of one path", async () => {
    const stat = await host.json(["stat", archive, "/etc/hello"]);
    expect(stat).toMatchObject({
      type: "file",
      mode: "0640",
      uid: 5,
      gid: 6,
      nlink: 1,
      size: 6,
      mtime: { sec: 1_600_000_000, nsec: 123_456_789 },
      extents: [{ fileOffset: 0, length: 6 }],
    });
    expect(await host.json(["stat", archive, "/bin/su"])).toMatchObject({
      xattrs: [{ name: "user.note", value: "x" }],
    });
    expect(await host.json(["stat", archive, "/etc/link"])).toMatchObject({
      type: "symlink",
      target: "hello",
    });
    expect(await host.json(["stat", "-L", archive, "/etc/link"])).toMatchObject({ type: "file", size: 6 });
    expect(await host.json(["stat", archive, "/null"])).toMatchObject({ type: "character", device: [1, 3] });
  });

  it("tree walks every path", async () => {
    const paths = (await host.ok(["tree", archive])).trim().split("\n");
    expect(paths).toEqual([
      "/",
      "/back\\\\slash",
      "/big",
      "/bin",
      "/bin/su",
      "/etc",
      "/etc/hello",
      "/etc/link",
      "/null",
      "/odd\\xff name",
    ]);
    expect((await host.ok(["tree", archive, "/etc"])).trim().split("\n")).toEqual([
      "/etc",
      "/etc/hello",
      "/etc/link",
    ]);
  });

  it("cat prints a file, through symlinks, by odd names, and of a size beyond one span", async () => {
    expect(await host.ok(["cat", archive, "/etc/link"])).toBe("hello\n");
    expect(await host.ok(["cat", archive, "/odd\\xff name"])).toBe("odd\n");
    expect(await host.ok(["cat", archive, "/back\\slash"])).toBe("slash\n");
    const digest = (text: string | Buffer) => createHash("sha256").update(text).digest("hex");
    expect(digest(await host.ok(["cat", archive, "/big"]))).toBe(digest(big));
  });

  it("inspect tells how each layer can be read", async () => {
    const description = await host.json<{ layers: { compression: string; access: string }[] }>([
      "inspect",
      archive,
    ]);
    expect(description.layers.map(({ compression, access }) => [compression, access])).toEqual([
      ["gzip", "ranges"],
      ["zstd", "whole"],
    ]);
    const text = await host.ok(["inspect", archive]);
    expect(text).toMatch(/zstd .* the whole layer/);
    expect(text).toMatch(/1 setuid, has xattrs/);
  });

  it("verify checks the archive, the cache, and with --fetch every byte", async () => {
    expect(await host.json(["verify", archive, "--fetch"])).toMatchObject({
      missing: 0,
      damaged: 0,
      failures: [],
    });
    expect(await host.json(["verify", archive])).toMatchObject({ missing: 0, fetched: 0, damaged: 0 });
  });

  it("all name what is not there", async () => {
    for (const command of ["ls", "cat", "stat", "tree"]) {
      const result = await host.run([command, archive, "/etc/absent"]);
      expect(result).toMatchObject({ code: 3, stdout: "" });
      expect(result.stderr).toMatch(/^skim: NOT_FOUND: \/etc\/absent/);
    }
    expect((await host.run(["cat", archive, "/etc"])).code).toBe(2);
  });

  it("a mistyped command line is answered with what is known, and 2", async () => {
    const result = await host.run(["indx"]);
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(/^skim: USAGE: unknown command 'indx'[\s\S]*index/);
    expect((await host.run(["mount", archive])).stderr).toMatch(/^skim: USAGE: missing required argument/);
    expect((await host.run(["index", "x", "--platform", "linux"])).stderr).toMatch(/os\/arch/);
    expect((await host.run(["--help"])).code).toBe(0);
  });
});
