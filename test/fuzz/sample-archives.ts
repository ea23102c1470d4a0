/** The archives of corpus/archives, as this version writes them. */
import {
  contentsOf,
  directory,
  encoded,
  file,
  gzipLayer,
  layerIndex,
  node,
  plainLayer,
  raw,
  sampleContents,
  symlink,
  xattr,
} from "../archive/sample-archive.js";

/** Reads of it cross many spans, of two layers, and holes; its directory takes more than one READDIRPLUS. */
function manySpans(): Buffer {
  const spanBytes = 3000;
  const spans = Array.from({ length: 40 }, (_, i) => ({
    length: spanBytes,
    restart: i % 4 === 0 ? (1 as const) : (0 as const),
    compressedStart: (i - (i % 4)) * 1000,
    compressedEnd: (i + 1) * 1000,
  }));
  const layer = layerIndex("many spans", "gzip", 40_000, spans);
  const names = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`file-${String(i).padStart(3, "0")}`, file(i * 100, 100)]),
  );
  const pieces = Array.from({ length: 12 }, (_, i) => ({
    fileOffset: i * 10_000 + (i % 3) * 100,
    layerOffset: i * 9000,
    length: 8000,
  }));
  return encoded(
    contentsOf(
      directory({
        big: file(0, 120_000),
        holes: node("file", { fileBytes: 130_000, extents: pieces }),
        other: file(100, 400, { layer: 1 }),
        hollow: node("file", { fileBytes: 100_000 }),
        many: directory(names),
        deep: directory({ [`${"n".repeat(255)}`]: symlink("t".repeat(4095)) }),
        attributes: file(0, 1, {
          xattrs: [xattr("security.capability", "\x01".repeat(20)), xattr("user.long", "v".repeat(4000))],
        }),
      }),
      [layer, plainLayer],
    ),
  );
}

const oneFile = () => encoded(contentsOf(directory({ [raw("a")]: file(0, 1100) }), [gzipLayer]));

export const sampleArchives: Readonly<Record<string, () => Buffer>> = {
  "many-spans": manySpans,
  "one-file": oneFile,
  sample: () => encoded(sampleContents()),
  "start-set": () => encoded(sampleContents(), [4, 0, 1, 3]),
};
