/** What indexing takes, once for each image, and what it leaves on disk. */
import path from "node:path";
import type { Figure } from "../../src/bench/figure.js";
import { run } from "../support/processes.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";

const reference = "inflate and hash";
const referenceOfPieces = "inflate and hash, pieces too";

/**
 * `skim index` of the layout into an empty cache, against a process that inflates the same layers and hashes them before and after, which whoever checks a digest and a
 * diffId must, and against one that also hashes every MiB, which whoever verifies pieces must (inflate-and-hash.ts). Layers side by side in all of them.
 */
export async function measureIndexing(bench: StartBench, image: StartImage): Promise<Figure> {
  const { signal } = bench;
  const { layers, uncompressedBytes } = await describe(bench, image);
  const blobs = layers.map((digest) =>
    path.join(bench.run.imageDir, "blobs/sha256", digest.slice("sha256:".length)),
  );
  const speed = (milliseconds: number) => uncompressedBytes / 1e6 / milliseconds;
  const inflateAndHash = async (args: readonly string[]) => {
    await bench.place();
    const program = path.join(import.meta.dirname, "inflate-and-hash.js");
    return speed((await run(process.execPath, [program, ...args], { signal })).milliseconds);
  };
  const rows = await bench.rows("GB/s", [
    {
      system: "skim index",
      measure: async () => {
        const cacheDir = path.join(await bench.place(), "cache");
        return speed(
          (await bench.skim(["index", bench.layout(image), "--cache-dir", cacheDir])).milliseconds,
        );
      },
    },
    { system: reference, measure: () => inflateAndHash(blobs) },
    { system: referenceOfPieces, measure: () => inflateAndHash(["--pieces", ...blobs]) },
  ]);
  return {
    name: `index/${image.name}`,
    title: `indexing ${image.title}, by uncompressed bytes; once for an image, before its first start`,
    rows,
    comparisons: [
      { row: "skim index", against: reference, target: { atLeast: 0.8 } },
      { row: "skim index", against: referenceOfPieces, target: { atLeast: 0.8 } },
    ],
  };
}

/** The archive's parts, and what they are parts of. */
export async function measureArchive(bench: StartBench, image: StartImage): Promise<Figure[]> {
  const { archiveBytes, windowBytes, metadataBytes, compressedBytes, uncompressedBytes, files } =
    await describe(bench, image);
  const percent = (system: string, bytes: number) => ({
    system,
    unit: "%",
    samples: [(100 * bytes) / uncompressedBytes],
  });
  const megabytes = (system: string, bytes: number) => ({ system, unit: "MB", samples: [bytes / 1e6] });
  return [
    {
      name: `archive/${image.name}`,
      title: `the archive of ${image.title} (${files} files), in hundredths of its uncompressed layers`,
      rows: [
        percent("archive", archiveBytes),
        percent("windows", windowBytes),
        percent("metadata", metadataBytes),
      ],
      comparisons: [{ row: "archive", target: { atMost: 1.2 } }],
    },
    {
      name: `archive-size/${image.name}`,
      title: "the same in megabytes",
      rows: [
        megabytes("archive", archiveBytes),
        megabytes("windows", windowBytes),
        megabytes("metadata", metadataBytes),
        megabytes("layers, compressed", compressedBytes),
        megabytes("layers, uncompressed", uncompressedBytes),
      ],
      comparisons: [],
    },
  ];
}

export interface DescribedImage {
  readonly layers: readonly string[];
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  readonly archiveBytes: number;
  readonly windowBytes: number;
  readonly metadataBytes: number;
  readonly files: number;
}

/** What `skim inspect` says of the image's archive. */
export async function describe(bench: StartBench, image: StartImage): Promise<DescribedImage> {
  const cacheDir = await bench.coldCache(image);
  const { stdout } = await bench.skim(["inspect", bench.reference(image), "--cache-dir", cacheDir, "--json"]);
  const said = JSON.parse(stdout) as {
    archiveBytes: number;
    windowBytes: number;
    metadataBytes: number;
    inodeCount: number;
    layers: { digest: string; compressedBytes: number; uncompressedBytes: number }[];
  };
  const sum = (bytesOf: (layer: (typeof said.layers)[0]) => number) =>
    said.layers.reduce((total, layer) => total + bytesOf(layer), 0);
  return {
    layers: said.layers.map(({ digest }) => digest),
    compressedBytes: sum(({ compressedBytes }) => compressedBytes),
    uncompressedBytes: sum(({ uncompressedBytes }) => uncompressedBytes),
    archiveBytes: said.archiveBytes,
    windowBytes: said.windowBytes,
    metadataBytes: said.metadataBytes,
    files: said.inodeCount,
  };
}
