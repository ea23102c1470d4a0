import { describe } from "vitest";
import { placeOf, sectionBytes } from "./archive-bytes.js";
import {
  all,
  itRefuses,
  layer,
  longer,
  type Mutation,
  manifestJson,
  span,
  withManifest,
} from "./broken-archive.js";

const manifestWithLayers =
  (change: (layers: Array<Record<string, unknown>>) => unknown) => (archive: Buffer) => {
    const manifest = manifestJson();
    manifest.layers = change(manifest.layers);
    return withManifest(archive, Buffer.from(JSON.stringify(manifest)));
  };
const layerRules: Mutation[] = [
  [
    "fewer layers than the manifest",
    /layers: 3 layers, but the manifest has 4/,
    manifestWithLayers((l) => [...l, l[0]!]),
  ],
  [
    "layers in another order than the manifest's",
    /layers record 0: digest is not/,
    manifestWithLayers((l) => [l[1]!, l[0]!, l[2]!]),
  ],
  [
    "another size than the manifest's",
    /layers record 1: compressedBytes is 500, but the manifest says 501/,
    manifestWithLayers((l) => l.with(1, { ...l[1], size: 501 })),
  ],
  [
    "another media type than the manifest's",
    /layers record 2: mediaType/,
    manifestWithLayers((l) => l.with(2, { ...l[2], mediaType: "x" })),
  ],
  ["a digest beyond names", /layers record 0: digest reaches beyond/, layer(0, 0, 4, 0xffffffff)],
  ["a diffId beyond names", /layers record 0: diffId reaches beyond/, layer(0, 14, 2, 0xffff)],
  ["a media type beyond names", /layers record 0: mediaType reaches beyond/, layer(0, 8, 4, 0xfffffff0)],
  ["a diffId that is no digest", /layers record 0: diffId is not/, layer(0, 14, 2, 5)],
  ["a compression that nobody knows", /layers record 0: compression is 3/, layer(0, 18, 1, 3)],
  ["reserved byte 19", /layers record 0: reserved/, layer(0, 19, 1, 1)],
  ["reserved byte 28", /layers record 1: reserved/, layer(1, 28, 4, 0x80000000)],
  ["reserved byte 63", /layers record 2: reserved/, layer(2, 60, 4, 0xff000000)],
  ["compressedBytes beyond 2^53", /layers record 0: compressedBytes or/, layer(0, 32, 8, 2n ** 53n)],
  ["uncompressedBytes beyond 2^53", /layers record 0: compressedBytes or/, layer(0, 40, 8, 2n ** 63n)],
  [
    "uncompressedBytes that are not those of the spans",
    /layers record 0: its spans hold 1100 bytes/,
    layer(0, 40, 8, 1101),
  ],
  [
    "spans of another layer",
    /layers record 1: spanFirst is 0, but the spans of the layers before end at 3/,
    layer(1, 20, 4, 0),
  ],
  ["a gap between the spans of layers", /layers record 1: spanFirst is 4/, layer(1, 20, 4, 4)],
  ["more spans than there are", /layers record 1: its spans end at 4294967298/, layer(1, 24, 4, 0xffffffff)],
  ["a layer with bytes but no spans", /layers record 1: its spans hold 0 bytes/, layer(1, 24, 4, 0)],
  [
    "the same layer with other spans",
    /layers record 2: not the same as the layer before/,
    layer(2, 24, 4, 2),
  ],
  ["the same layer in another compression", /layers record 2: not the same/, layer(2, 18, 1, 0)],
  ["the same layer with another size", /layers record 2: not the same/, layer(2, 40, 8, 1)],
  [
    "the same layer with another diffId",
    /layers record 2: not the same/,
    (a) => {
      const record = sectionBytes(a, "layers");
      layer(2, 4, 4, record.readUInt32LE(64 + 4))(a);
    },
  ],
  ["spans of no layer", /spans record 5: belongs to no layer/, longer("spans", 80)],
];

const spanRules: Mutation[] = [
  [
    "a gap between spans",
    /spans record 1: uncompressedOffset is 401, but the span before ends at 400/,
    span(1, 0, 8, 401),
  ],
  ["spans that overlap", /spans record 1: uncompressedOffset is 399/, span(1, 0, 8, 399)],
  ["a first span that does not start at 0", /spans record 3: uncompressedOffset is 1/, span(3, 0, 8, 1)],
  ["an offset beyond 2^53", /spans record 1: uncompressedOffset/, span(1, 0, 8, 2n ** 64n - 1n)],
  ["a span without bytes", /spans record 1: uncompressedLength 0/, span(1, 8, 4, 0)],
  [
    "a span of more than 64 MiB",
    /spans record 2: uncompressedLength 67108865/,
    span(2, 8, 4, 64 * 1024 * 1024 + 1),
  ],
  ["a restart of no kind", /spans record 1: restart is 3/, span(1, 12, 1, 3)],
  [
    "a first span that cannot be decoded",
    /spans record 0: restart of a layer's first span is 0/,
    span(0, 12, 1, 0),
  ],
  [
    "a first span that starts in a member",
    /spans record 0: restart of a layer's first span is 2/,
    span(0, 12, 1, 2),
  ],
  [
    "a deflate block in a layer that has none",
    /spans record 4: restart is 2 in a layer that is not gzip/,
    span(4, 12, 1, 2),
  ],
  ["startBit 8", /spans record 2: startBit is 8/, span(2, 13, 1, 8)],
  ["startBit where no block starts", /spans record 0: startBit is 1, but restart is 1/, span(0, 13, 1, 1)],
  ["reserved bytes", /spans record 2: reserved/, span(2, 14, 2, 0x100)],
  ["an empty range of the blob", /spans record 0: compressedEnd is not above/, span(0, 24, 8, 0)],
  [
    "a range beyond the blob",
    /spans record 2: compressedEnd 1001 is beyond the blob's 1000/,
    span(2, 24, 8, 1001),
  ],
  ["a range beyond 2^53", /spans record 2: compressedEnd .* is beyond/, span(2, 24, 8, 2n ** 64n - 1n)],
  ["compressedEnd that goes back", /spans record 2: compressedEnd is below/, span(2, 24, 8, 615)],
  [
    "compressedStart that goes back",
    /spans record 4: compressedStart is below/,
    all(span(3, 16, 8, 10), span(3, 0, 8, 0), span(4, 16, 8, 5), (a) => layer(1, 18, 1, 2)(a)),
  ],
  [
    "a range that is not that of the restart before",
    /spans record 1: compressedStart is not that/,
    span(1, 16, 8, 1),
  ],
  ["plain bytes that are elsewhere", /spans record 4: plain bytes are not where/, span(4, 24, 8, 499)],
  [
    "plain bytes without a restart point",
    /spans record 4: restart of plain bytes is 0/,
    all(span(4, 12, 1, 0), span(4, 16, 8, 0)),
  ],
  [
    "a window beyond windows",
    /spans record 2: its window reaches beyond/,
    (a) => span(2, 40, 4, placeOf(a, "windows").length + 1)(a),
  ],
  ["a window of more than 64 KiB", /spans record 2: windowStored 65537/, span(2, 40, 4, 65_537)],
  ["a window that does not follow the one before", /spans record 2: windowOffset is 1/, span(2, 32, 8, 1)],
  ["a window of more than 32 KiB of history", /spans record 2: windowLength 32769/, span(2, 44, 4, 32_769)],
  ["a window of more than there is before", /spans record 2: windowLength 801 is more/, span(2, 44, 4, 801)],
  ["a window of nothing", /spans record 2: \d+ bytes are stored for a window of 0/, span(2, 44, 4, 0)],
  ["history that is not stored", /spans record 2: 0 bytes are stored for a window of 100/, span(2, 40, 4, 0)],
  ["a window where no block starts", /spans record 0: it has a window, but restart is 1/, span(0, 40, 4, 1)],
  ["an offset of no window", /spans record 0: windowOffset is not 0/, span(0, 32, 8, 1)],
  [
    "bytes in windows that are of no span",
    /windows: \d+ bytes, but the windows of the spans end at/,
    longer("windows", 1),
  ],
];

describe("layers of an archive that somebody made", () => {
  itRefuses(layerRules);
});

describe("spans and windows of an archive that somebody made", () => {
  itRefuses(spanRules);
});
