import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { accountsBytesMax } from "../../src/archive/accounts.js";
import { openArchive } from "../../src/archive/archive-reader.js";
import { byteStringFromText } from "../../src/base/byte-string.js";
import { digestHex } from "../../src/image/digest.js";
import { readAccounts } from "../../src/mount/container-plan.js";
import { indexImage } from "../../src/mount/index-image.js";
import { library, program } from "../program/elf-builder.js";
import { writeTestImage } from "../support/oci-layout.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const spanBytes = 65536;
/** Two spans that do not compress, so that neighbours in the tar are not neighbours in a span. */
const filler = Buffer.from(Array.from({ length: 3 * spanBytes }, (_, i) => (i * i * 31 + (i >> 8)) & 0xff));

const tar = buildTar([
  { path: "before", content: filler },
  { path: "usr/lib/libtwo.so", content: library("libtwo.so") },
  { path: "between", content: filler },
  { path: "usr/bin/tool", content: program(["libone.so"]), mode: 0o755 },
  { path: "behind", content: filler },
  { path: "usr/lib/libone.so", content: library("libone.so", { needed: ["libtwo.so"] }) },
  { path: "last", content: filler },
  { path: "lib64/ld-linux-x86-64.so.2", content: library("ld-linux-x86-64.so.2"), mode: 0o755 },
]);

let dir: string;
let layout: string;
let layer: string;

beforeEach(async () => {
  dir = await makeTempDir("start-set");
  layout = path.join(dir, "image");
  const { layerDigests } = await writeTestImage(layout, [{ tar }], {
    config: { Cmd: ["tool"], Env: ["LC_ALL=C"] },
  });
  layer = path.join(layout, "blobs/sha256", digestHex(layerDigests[0]!));
});

const index = (output: string, cacheDir: string) =>
  indexImage({
    image: `oci:${layout}`,
    output: path.join(dir, output),
    settings: { spanBytes, cacheDir: path.join(dir, cacheDir) },
  });

describe("the start set of an image that is indexed", () => {
  it("has the spans of its command's program, loader and libraries, in that order", async () => {
    const indexed = await index("image.skim", "cache");
    const archive = await openArchive(indexed.archive);
    const spanOf = (file: string) => {
      const ino = file
        .split("/")
        .reduce((parent, name) => archive.lookup(parent, byteStringFromText(name)), 1);
      const [extent] = archive.extents(ino);
      return archive.spanIndexAt(0, extent!.layerOffset);
    };
    const files = ["usr/bin/tool", "lib64/ld-linux-x86-64.so.2", "usr/lib/libone.so", "usr/lib/libtwo.so"];
    const spans = files.map(spanOf);
    expect(new Set(spans).size).toBe(4);
    // A file that crosses into the next span brings that too; the order is that of the first need.
    expect(Array.from(archive.startSpans!).filter((span) => spans.includes(span))).toEqual(spans);
    expect(archive.startSpans!.length).toBeLessThanOrEqual(8);
    expect(archive.startSpans!.length).toBeLessThan(archive.spanCount);
    expect(indexed.startSpans).toBe(archive.startSpans!.length);
    await archive.close();
  });

  it("is the same with a full cache and an empty one", async () => {
    const one = await index("one.skim", "cache");
    const again = await index("again.skim", "cache");
    const other = await index("other.skim", "other-cache");
    const bytes = await readFile(one.archive);
    expect((await readFile(again.archive)).equals(bytes)).toBe(true);
    expect((await readFile(other.archive)).equals(bytes)).toBe(true);
  });

  it("needs nothing of the registry where the cache has what was read before", async () => {
    const one = await index("one.skim", "cache");
    await rm(layer);
    const again = await index("again.skim", "cache");
    expect((await readFile(again.archive)).equals(await readFile(one.archive))).toBe(true);
  });

  it("is not guessed where the layer cannot be had: indexing fails, and an archive that is there stays", async () => {
    await index("one.skim", "cache");
    await rm(layer);
    await rm(path.join(dir, "cache/layers"), { recursive: true });
    const file = path.join(dir, "image.skim");
    await writeFile(file, "what was there");
    await expect(index("image.skim", "cache")).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await readFile(file, "utf8")).toBe("what was there");
  });
});

describe("the accounts of an image that is indexed", () => {
  const passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";

  async function indexed(entries: Parameters<typeof buildTar>[0]) {
    await rm(layout, { recursive: true });
    await writeTestImage(layout, [{ tar: buildTar(entries) }], { config: { Cmd: ["tool"] } });
    return await openArchive((await index("image.skim", "cache")).archive);
  }

  it("are in its archive, symlinks within the image followed, and nothing else is read for them", async () => {
    const archive = await indexed([
      { path: "etc/passwd", link: "/usr/lib/passwd" },
      { path: "usr/lib/passwd", content: passwd },
    ]);
    expect(archive.accounts).toEqual({ passwd });
    expect(await readAccounts(archive, "/nowhere")).toEqual({ passwd });
    await archive.close();
  });

  it("are read from the mounted image where they are too long for an archive, or the archive is from before", async () => {
    const long = passwd + "x".repeat(accountsBytesMax);
    const archive = await indexed([{ path: "etc/passwd", content: long }]);
    expect(archive.accounts).toBeUndefined();
    const lower = path.join(dir, "lower");
    await mkdir(path.join(lower, "etc"), { recursive: true });
    await writeFile(path.join(lower, "etc/passwd"), long);
    expect(await readAccounts(archive, lower)).toEqual({ passwd: long, group: undefined });
    await archive.close();
  });
});
