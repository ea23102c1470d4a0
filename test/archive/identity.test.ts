import { describe } from "vitest";
import { digestOf } from "../../src/image/digest.js";
import { sectionBytes, withSections } from "./archive-bytes.js";
import { itRefuses, json, type Mutation, manifestJson, withManifest } from "./broken-archive.js";

const identityRules: Mutation[] = [
  ["identity that is no JSON", /identity: not JSON/, (a) => withSections(a, { identity: Buffer.from("{") })],
  ["identity that is a list", /identity: /, json(() => [])],
  ["identity with a key too many", /identity: .*later/, json((i) => ({ ...i, later: 1 }))],
  ["identity with a key too few", /identity: warnings/, json(({ warnings: _, ...i }) => i)],
  ["identity with a number for a name", /identity: reference/, json((i) => ({ ...i, reference: 1 }))],
  [
    "identity with keys in another order",
    /identity: not in the one form/,
    json(({ reference, ...i }) => ({ ...i, reference })),
  ],
  [
    "identity with white space",
    /identity: not in the one form/,
    (a) => withSections(a, { identity: Buffer.concat([sectionBytes(a, "identity"), Buffer.from("\n")]) }),
  ],
  [
    "identity with a key twice",
    /identity: not in the one form/,
    (a) =>
      withSections(a, {
        identity: Buffer.from(sectionBytes(a, "identity").toString().replace("{", '{"reference":"x",')),
      }),
  ],
  [
    "identity that is not UTF-8",
    /identity: not in the one form/,
    (a) => {
      const bytes = Buffer.from(sectionBytes(a, "identity"));
      bytes[bytes.indexOf("app")] = 0xff;
      return withSections(a, { identity: bytes });
    },
  ],
  [
    "identity of 8 MiB and more",
    /identity: \d+ bytes are more/,
    json((i) => ({ ...i, warnings: ["x".repeat(8 * 1024 * 1024)] })),
  ],
  ["a span size of 0", /identity: spanBytes/, json((i) => ({ ...i, spanBytes: 0 }))],
  ["a platform that is none", /identity: platform/, json((i) => ({ ...i, platform: { os: "linux" } }))],
  [
    "a manifest digest of no known algorithm",
    /identity: manifestDigest/,
    json((i) => ({ ...i, manifestDigest: "md5:00" })),
  ],
  [
    "a manifest digest of other bytes",
    /manifest: its digest is/,
    json((i) => ({ ...i, manifestDigest: digestOf(Buffer.from("x")) })),
  ],
  [
    "a manifest of other bytes",
    /manifest: its digest is/,
    (a) => withSections(a, { manifest: Buffer.from("{}") }),
  ],
  ["a manifest that is no JSON", /manifest: .*not JSON/, (a) => withManifest(a, Buffer.from("nothing"))],
  [
    "a manifest that is an image index",
    /manifest: an image index/,
    (a) =>
      withManifest(a, Buffer.from('{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}')),
  ],
  [
    "a manifest of more than 4 MiB",
    /manifest: \d+ bytes are more/,
    (a) => withManifest(a, Buffer.alloc(4 * 1024 * 1024 + 1, " ")),
  ],
  ["a config of other bytes", /config: its digest is/, (a) => withSections(a, { config: Buffer.from("{}") })],
  ["a config that is no JSON", /config: .*not JSON/, (a) => withConfig(a, Buffer.from("nothing"))],
  [
    "a config whose diffIds are no list",
    /config: .*diff_ids is not a list/,
    (a) => withConfig(a, Buffer.from('{"rootfs":{"diff_ids":5}}')),
  ],
];
function withConfig(archive: Buffer, config: Uint8Array): Buffer {
  const manifest = manifestJson();
  manifest.config.digest = digestOf(config);
  return withManifest(withSections(archive, { config }), Buffer.from(JSON.stringify(manifest)));
}

describe("identity, manifest and config of an archive that somebody made", () => {
  itRefuses(identityRules);
});
