/**
 * Layers as every tool compresses them, each in its own layer of one image, with files on both sides of a span's end. The bytes that went in are what every
 * way has to give.
 */
import { execFileSync } from "node:child_process";
import { deflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { unpackImage } from "../../src/mount/unpack-image.js";
import {
  filtered,
  gzipMember,
  gzipVariants,
  layerBytes,
  skippableFrame,
  zstd,
  zstdFrames,
} from "../native/blobs.js";
import type { TestLayer } from "../support/oci-layout.js";
import type { TarEntrySpec } from "../support/tar-builder.js";
import { linesOfTree } from "../support/tree-dump.js";
import { merge } from "../tree/notation.js";
import { expectEveryWay, writeLayout } from "./four-ways.js";

const bytes = layerBytes();

/** Some files, one of them twice as long as a layer's data are usually apart, and one without bytes. */
function filesOf(layer: number): TarEntrySpec[] {
  return [
    { path: `${layer}/` },
    { path: `${layer}/large`, content: Buffer.concat([Buffer.from(`${layer}`), bytes]) },
    { path: `${layer}/text`, content: bytes.subarray(layer, 5000 + layer) },
    { path: `${layer}/empty`, content: "" },
    { path: `${layer}/last`, content: `the last of ${layer}` },
  ];
}

async function expectTree(
  variants: Readonly<Record<string, (tar: Buffer) => Buffer>>,
  options: Parameters<typeof expectEveryWay>[2] = {},
): Promise<void> {
  const makers = Object.values(variants);
  const image = merge(makers.map((_, layer) => filesOf(layer)));
  const layers = makers.map((make, layer): TestLayer => {
    const { tar } = image.layers[layer]!;
    return { tar, blob: make(tar) };
  });
  await expectEveryWay(layers, linesOfTree(image, image.contentOf), options);
}

const python = (tar: Buffer) =>
  filtered(
    "python3-minimal",
    "/usr/bin/python3",
    ["-c", "import gzip, sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read()))"],
    tar,
  );
/** The last member of an eStargz layer: empty, with a place in the blob as its extra field. */
const stargzFooter = gzipMember(Buffer.alloc(0), deflateRawSync(Buffer.alloc(0), { level: 0 }), {
  extra: Buffer.from(`SG${"\x16\x00"}${"0".repeat(16)}STARGZ`),
});

describe("layers in gzip", () => {
  // Go's gzip has no names of more than 512 bytes.
  const { "all header fields": longHeader, ...usual } = gzipVariants;

  it("of every kind give the bytes that went in, also as umoci has it", () => expectTree(usual));

  it("of pigz without a dictionary, of Python, of eStargz's form, of gzip with a name and zeros behind it", () =>
    expectTree(
      {
        "all header fields": longHeader!,
        "pigz --independent": (tar) => filtered("pigz", "pigz", ["-nc", "--independent", "-b", "128"], tar),
        Python: python,
        eStargz: (tar) => Buffer.concat([gzipVariants["a member for each file"]!(tar), stargzFooter]),
        "zeros behind it": (tar) => Buffer.concat([python(tar), Buffer.alloc(10_240)]),
        "garbage behind it": (tar) => Buffer.concat([python(tar), Buffer.from("not a header")]),
        "gzip of a named file": (tar) =>
          execFileSync(
            "sh",
            ["-c", 'cd "$(mktemp -d)" && cat > layer.tar && gzip -9c layer.tar && rm -r "$PWD"'],
            {
              input: tar,
              maxBuffer: 2 ** 26,
            },
          ),
      },
      // Go's gzip takes nothing but members.
      { umoci: false },
    ));
});

describe("layers in zstd, and in none", () => {
  it("give the bytes that went in, whatever their media type says (umoci 0.4.7 has no zstd)", () =>
    expectTree(
      {
        "one frame": (tar) => zstd(tar),
        "one frame of level 19": (tar) => zstd(tar, "-19"),
        "frames of 100,000 bytes": (tar) => zstdFrames(tar, 100_000),
        "a skippable frame first": (tar) => Buffer.concat([skippableFrame(Buffer.from("index")), zstd(tar)]),
        "a checksum": (tar) => zstd(tar, "--check"),
        none: (tar) => tar,
        gzip: (tar) => gzipVariants["level 6"]!(tar),
      },
      { umoci: false },
    ));

  it("whose media type says gzip are told of, in the same words by every mode", async () => {
    const image = merge([filesOf(0)]);
    const { tar } = image.layers[0]!;
    const layout = await writeLayout([{ tar, blob: zstd(tar) }]);
    for (const mode of ["copy", "extract"] as const) {
      const { warnings } = await unpackImage({
        image: layout.name,
        directory: `${layout.dir}/${mode}`,
        mode,
        settings: { cacheDir: `${layout.dir}/cache` },
      });
      expect(warnings.join()).toMatch(/media type .*gzip says gzip, its bytes are zstd/);
    }
  });
});
