/**
 * Example cases 9 and 24, and the rules that end in an error: images that have no meaning, bad blobs, limits. Every way says the same of the same
 * layer, and nothing is written.
 */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { describe, it } from "vitest";
import type { ErrorCode } from "../../src/base/errors.js";
import { type Digest, digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { filtered, zstd } from "../native/blobs.js";
import { putBlob, type TestLayer, tagManifest } from "../support/oci-layout.js";
import { buildTar, padded, type TarEntrySpec } from "../support/tar-builder.js";
import { type LayerNotation, layersOf } from "../tree/notation.js";
import { layersIn, writeLayout } from "./four-ways.js";
import { expectRefused, type Refusal, refused } from "./refusals.js";

/** What comes below each bad layer: a tree that must not be left either. */
const base: LayerNotation = "a d/b d/c/e l→d h=a";
const tarOf = (layer: LayerNotation) => layersOf([layer])[0]!.tar;

/** The bad layer stands over a good one. */
const over = (layer: TestLayer): TestLayer[] => [{ tar: tarOf(base) }, layer];

/** One test: the layer, over a good one, is corrupt, and the error names the layer and the path. */
function corrupt(claim: string, layer: LayerNotation, named: RegExp): void {
  const message = new RegExp(`^layer 2 of 2, .*${named.source}`, "s");
  refused(claim, () => layersIn({ layers: layersOf([base, layer]) }), { code: "LAYER_CORRUPT", message });
}

describe("example 9: a whiteout of no name", () => {
  for (const name of [".wh.", ".wh..", ".wh..."])
    for (const marker of [name, `d/${name}`, `d/${name}/f`])
      corrupt(`${marker} is an error`, `x ${marker}`, new RegExp(`"${marker.replaceAll(".", "\\.")}" `));
});

describe("a hard link", () => {
  corrupt("to what is missing is an error", "b=none", /"b" is a hard link to "none"/);
  corrupt("to a directory is an error", "b=d", /"b" is a hard link to the directory "d"/);
  corrupt("to itself is an error", "b=b", /"b" is a hard link to "b"/);
  corrupt("in a circle is an error", "x=y y=z z=x", /is a hard link to/);
  corrupt("to what an AUFS name does not have is an error", "b=.wh..wh.plnk/1", /"b" is a hard link/);
});

describe("the root", () => {
  for (const type of ["file", "symlink", "hardlink", "fifo"] as const) {
    const entry = { path: "./", type, ...(type.endsWith("link") ? { link: "d" } : {}) } as const;
    corrupt(`cannot be a ${type}`, [entry], /"\.\/" is a /);
  }
});

describe("an entry through links", () => {
  corrupt("that lead to themselves is an error", "o→o o/f", /"o\/f" leads through/);
  corrupt("that lead in a circle is an error", "o→p p→q q→o p/d/f", /"p\/d\/f" leads through/);
});

describe("names", () => {
  const refusedName = (claim: string, entry: TarEntrySpec, named: RegExp) =>
    refused(claim, () => over({ tar: buildTar([entry]) }), {
      code: "LIMIT_EXCEEDED",
      message: new RegExp(`^layer 2 of 2, sha256:.*${named.source}`),
    });
  refusedName("of 256 bytes are an error", { path: `d/${"n".repeat(256)}` }, /"d\/n+\.\.\." has 256 bytes/);
  refusedName("whose path has 4097 bytes are an error", { path: `${"d/".repeat(2048)}f` }, /4097 bytes/);
  refusedName(
    "of a symlink to 4096 bytes are an error",
    { path: "s", link: "t".repeat(4096) },
    /"s" has 4096 bytes/,
  );
});

const tar = tarOf([{ path: "f", content: Buffer.alloc(200_000, "content ") }, "g"]);
const cut = (bytes: Buffer, from = 0.5) => bytes.subarray(0, Math.floor(bytes.length * from));

describe("example 24: a truncated layer", () => {
  const truncated: Record<string, TestLayer> = {
    "gzip, in its data": { tar, blob: cut(gzipSync(tar)) },
    "gzip, in its trailer": { tar, blob: gzipSync(tar).subarray(0, -3) },
    "zstd, in its data": { tar, blob: cut(zstd(tar)) },
    "a plain tar, in a file": { tar: cut(tar), blob: cut(tar) },
    "a tar in gzip, in a file": { tar: cut(tar), blob: gzipSync(cut(tar)) },
    "a tar in gzip, in a header": { tar: tar.subarray(0, 300), blob: gzipSync(tar.subarray(0, 300)) },
  };
  for (const [what, layer] of Object.entries(truncated))
    refused(what, () => over(layer), { code: "LAYER_CORRUPT", message: /^layer 2 of 2, sha256:/ });
});

describe("bytes that are not what they are said to be", () => {
  const wrongDiffId = { diffId: `sha256:${"0".repeat(64)}` };
  const ofDiffId: Refusal = {
    code: "DIFF_ID_MISMATCH",
    message: /^layer \d of 2, sha256:.*diffId sha256:[0-9a-f]{64}, the image config says sha256:0{64}/,
  };
  refused("example 24: a wrong diffId of the last layer", () => over({ tar, ...wrongDiffId }), ofDiffId);
  refused(
    "example 24: a wrong diffId of the first layer",
    () => [{ tar, ...wrongDiffId }, { tar: tarOf("x") }],
    ofDiffId,
  );
  refused(
    "a diffId of the tar without what is behind its end",
    () => over({ tar: Buffer.concat([tar, Buffer.alloc(4096)]), diffId: digestOf(tar) }),
    { code: "DIFF_ID_MISMATCH", message: /^layer 2 of 2/ },
  );

  const damages: Record<string, [damage: (blob: Buffer) => Buffer, code: ErrorCode, blob: Buffer]> = {
    "a flipped byte in gzip data": [flipped, "LAYER_CORRUPT", gzipSync(tar)],
    "a flipped byte in a gzip's name, which nothing but the digest covers": [
      (blob) => Buffer.concat([blob.subarray(0, 12), Buffer.from("X"), blob.subarray(13)]),
      "DIGEST_MISMATCH",
      namedGzip(tar),
    ],
    "a flipped byte in a file of a plain tar": [
      (blob) => Buffer.concat([blob.subarray(0, 9000), Buffer.from("X"), blob.subarray(9001)]),
      "DIGEST_MISMATCH",
      tar,
    ],
    "a blob that is shorter than its descriptor says": [
      (blob) => blob.subarray(0, -1),
      "IMAGE_INVALID",
      gzipSync(tar),
    ],
    "a blob that is longer than its descriptor says": [
      (blob) => Buffer.concat([blob, Buffer.alloc(1)]),
      "IMAGE_INVALID",
      gzipSync(tar),
    ],
  };
  for (const [what, [damage, code, blob]] of Object.entries(damages)) {
    it(what, async () => {
      const layout = await writeLayout(over({ tar, blob }));
      const file = path.join(layout.dir, "image/blobs/sha256", digestOf(blob).slice("sha256:".length));
      await writeFile(file, damage(await readFile(file)));
      await expectRefused(layout, { code, message: new RegExp(digestOf(blob).slice(7, 19)) });
    });
  }
});

/** A gzip member with a name in its header, at offset 10. */
function namedGzip(data: Buffer): Buffer {
  const plain = gzipSync(data);
  plain[3] = 8;
  return Buffer.concat([plain.subarray(0, 10), Buffer.from("layer.tar\0"), plain.subarray(10)]);
}

function flipped(blob: Buffer): Buffer {
  const copy = Buffer.from(blob);
  copy[copy.length >> 1]! ^= 0x40;
  return copy;
}

describe("a layer in a form that is not read", () => {
  const forms: Record<string, [layer: TestLayer, message: RegExp]> = {
    xz: [{ tar, blob: filtered("xz-utils", "xz", ["-c"], tar) }, /it is xz, not a tar/],
    bzip2: [{ tar, blob: filtered("bzip2", "bzip2", ["-c"], tar) }, /it is bzip2, not a tar/],
    "no tar at all": [{ tar, blob: Buffer.alloc(2000, "text ") }, /starts with 74657874/],
    "no tar at all, in gzip": [
      { tar: Buffer.alloc(2000, "text "), blob: gzipSync(Buffer.alloc(2000, "text ")) },
      /tar/,
    ],
    "a foreign layer": [
      { tar, mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" },
      /foreign layer/,
    ],
    "an encrypted layer": [
      { tar, mediaType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted" },
      /encrypted layer/,
    ],
  };
  for (const [what, [layer, message]] of Object.entries(forms)) {
    const code = what.endsWith("in gzip") ? "LAYER_CORRUPT" : "LAYER_UNSUPPORTED";
    refused(what, () => over(layer), { code, message: new RegExp(`^layer 2 of 2, .*${message.source}`) });
  }
});

describe("a header that is no header", () => {
  const member = tarOf("good").subarray(0, 1024);
  const bad: Record<string, Buffer> = {
    "a wrong checksum": withByte(tarOf("x"), 0, 0x79),
    "a size that is no number": withByte(tarOf("x"), 124, 0x7a),
  };
  for (const [what, tar] of Object.entries(bad))
    refused(what, () => over({ tar: Buffer.concat([member, tar]) }), {
      code: "LAYER_CORRUPT",
      message: /^layer 2 of 2, /,
    });
});

function withByte(tar: Buffer, at: number, byte: number): Buffer {
  const copy = Buffer.from(tar);
  copy[at] = byte;
  return copy;
}

describe("example 24: a bomb, and what is larger than the settings allow", () => {
  const zeros = buildTar([{ path: "zeros", content: Buffer.alloc(80 << 20) }]);
  const bombs: Record<string, [layer: () => TestLayer, settings: Refusal["settings"], named: RegExp]> = {
    "gzip that inflates to a thousand times its length": [
      () => ({ tar: zeros, blob: gzipSync(zeros, { level: 9 }) }),
      { layerRatioMax: 900 },
      /inflate to more than 900 times as many.*raise layerRatioMax \(SKIM_LAYER_RATIO_MAX\)/,
    ],
    "zstd that inflates to thirty thousand times its length, with the settings as they are": [
      () => ({ tar: zeros, blob: zstd(zeros) }),
      {},
      /inflate to more than 1100 times as many.*raise layerRatioMax/,
    ],
    "more bytes": [
      () => ({ tar }),
      { layerUncompressedBytesMax: 100_000 },
      /more than 100000 uncompressed bytes; raise layerUncompressedBytesMax \(SKIM_LAYER_UNCOMPRESSED_BYTES_MAX\)/,
    ],
    "more entries": [
      () => ({ tar: tarOf(Array.from({ length: 101 }, (_, at) => `f${at}`)) }),
      { layerEntriesMax: 100 },
      /raise layerEntriesMax \(SKIM_LAYER_ENTRIES_MAX\)/,
    ],
    "a pax header without end": [
      () => ({
        tar: Buffer.concat([paxHeaderOf(3 << 20), tarOf("f")]),
      }),
      {},
      /2097152/,
    ],
  };
  for (const [what, [layer, settings, named]] of Object.entries(bombs))
    refused(what, () => over(layer()), {
      code: "LIMIT_EXCEEDED",
      message: new RegExp(`^layer 2 of 2, .*${named.source}`),
      ...(settings ? { settings } : {}),
    });
});

/** A pax extended header of so many bytes: one record. */
function paxHeaderOf(length: number): Buffer {
  const record = Buffer.concat([Buffer.from(`${length} comment=`), Buffer.alloc(length, "c")]).subarray(
    0,
    length,
  );
  record[length - 1] = 0x0a;
  return buildTar([{ path: "PaxHeader", typeflag: "x", content: padded(record), size: length }]).subarray(
    0,
    -1024,
  );
}

describe("a config that does not fit the manifest", () => {
  it("with fewer diffIds than there are layers is refused", async () => {
    const layout = await writeLayout(over({ tar }));
    const directory = path.join(layout.dir, "image");
    const blob = async (digest: Digest) =>
      JSON.parse(await readFile(path.join(directory, "blobs/sha256", digest.slice(7)), "utf8"));
    const index = JSON.parse(await readFile(path.join(directory, "index.json"), "utf8"));
    const manifest = await blob(index.manifests[0].digest);
    const config = await blob(manifest.config.digest);
    config.rootfs.diff_ids.pop();
    const shorter = Buffer.from(JSON.stringify(config));
    manifest.config = { ...manifest.config, digest: await putBlob(directory, shorter), size: shorter.length };
    const changed = Buffer.from(JSON.stringify(manifest));
    const digest = await putBlob(directory, changed);
    await tagManifest(directory, "latest", mediaTypes.ociManifest, digest, changed.length);
    await expectRefused(layout, { code: "IMAGE_INVALID", message: /1 diffIds for 2 layers/ });
  });
});
