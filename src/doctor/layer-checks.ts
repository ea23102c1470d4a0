/** How the layers are stored: kinds that cannot be read, kinds that cannot be read in pieces, and what was odd when they were indexed. */
import { classifyLayer, mediaTypeWarning } from "../layer/layer-kind.js";
import { layerName } from "../layer/layer-name.js";
import { type Check, type Finding, listText, ok, warn } from "./check.js";
import type { Subject } from "./subject.js";

export const layerChecks: readonly Check[] = [
  {
    id: "layer-type",
    asks: "do the layers' media types say what they are, and are they of a kind that can be read (not foreign, not encrypted)",
    fix: "push the image again with its layers, decrypted, as tar with gzip or zstd",
    run: mediaTypes,
  },
  {
    id: "layer-ranges",
    asks: "can pieces of each layer be read without all that is before them (gzip; zstd of many frames)",
    fix: "compress as gzip, or as zstd of several frames (zstd:chunked, pzstd)",
    run: ranges,
  },
  {
    id: "layer-oddities",
    asks: "was anything odd when the layers were indexed",
    fix: "build the image anew with a current tool",
    run: oddities,
  },
];

function mediaTypes({ archive }: Subject): Finding[] {
  const { layers } = archive.manifest;
  const findings = layers.flatMap((descriptor, position) => {
    const where = layerName(descriptor.digest, position, layers.length);
    const compression = archive.layers[position]?.compression;
    const lie = compression && mediaTypeWarning(descriptor.mediaType, compression);
    return [...classifyLayer(descriptor, where), ...(lie ? [lie] : [])].map((oddity) =>
      warn(where, oddity, "push the image again with a current tool; skim goes by the bytes"),
    );
  });
  if (findings.length > 0) return findings;
  const kinds = [
    ...new Set(archive.layers.map(({ compression }) => (compression === "none" ? "plain tar" : compression))),
  ];
  return [
    ok(`${layers.length} ${layers.length === 1 ? "layer" : "layers"}, ${listText(kinds) || "all empty"}`),
  ];
}

const MB = 1e6;
/** Compressed bytes between two restart points that nobody notices. */
const restartBytesMax = 16 * MB;

function ranges({ archive }: Subject): Finding[] {
  const findings = archive.layers.flatMap((layer, position) => {
    if (layer.spanCount < 2 || layer.restarts < 1) return [];
    const between = layer.compressedBytes / layer.restarts;
    if (between <= restartBytesMax) return [];
    const where = layerName(layer.digest, position, archive.layers.length);
    const frames =
      layer.restarts === 1
        ? `one ${layer.compression} ${layer.compression === "zstd" ? "frame" : "stream"}`
        : `only ${layer.restarts} places where reading can begin`;
    return [
      warn(
        where,
        `${frames} in ${megabytes(layer.compressedBytes)}: a read fetches all from the last such place on`,
        "compress it as gzip, or as zstd of several frames (zstd:chunked, pzstd)",
      ),
    ];
  });
  if (findings.length > 0) return findings;
  const whole = archive.layers.filter((layer) => layer.restarts === 1 && layer.spanCount > 1);
  return [
    ok(
      whole.length === 0
        ? "every layer can be read in pieces"
        : `${whole.length} of ${archive.layers.length} layers must be read from their beginnings, and are small`,
    ),
  ];
}

export function megabytes(bytes: number): string {
  return bytes < 99_950 ? `${(bytes / 1000).toFixed(1)} KB` : `${(bytes / MB).toFixed(1)} MB`;
}

const odditiesMax = 20;

/** The media types are another check's. */
function oddities({ archive }: Subject): Finding[] {
  const { warnings } = archive.identity;
  const others = warnings.filter((warning) => !/ its media type /.test(warning));
  const shown = others.slice(0, odditiesMax).map((sentence) => {
    const colon = /^(layer \d+ of \d+, [^ :]+:[^ :]+): (.*)$/s.exec(sentence);
    return warn(
      colon?.[1] ?? "the image",
      colon?.[2] ?? sentence,
      "build the image anew with a current tool",
    );
  });
  if (others.length > odditiesMax)
    shown.push(warn("the image", `${others.length - odditiesMax} further oddities`, "see skim inspect"));
  return shown.length > 0 ? shown : [ok("nothing was odd when the layers were indexed")];
}
