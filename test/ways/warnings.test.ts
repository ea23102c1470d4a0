/** What the rules take with a warning: whoever indexes or unpacks the image is told the same of the same layer, each time. */
import path from "node:path";
import { gzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { indexImage } from "../../src/mount/index-image.js";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { zstd } from "../native/blobs.js";
import { removeTempDir } from "../support/temp-dir.js";
import { type LayerNotation, layersOf } from "../tree/notation.js";
import { unpackModes, writeLayout } from "./four-ways.js";

/** How a layer is stored. */
interface Stored {
  readonly tail?: string;
  readonly store?: (tar: Buffer) => Buffer;
  readonly mediaType?: string;
  /** The warnings are about the blob, which nobody reads of a layer that was extracted before. */
  readonly ofBlob?: boolean;
}

/** One test: of a good layer and this one over it everybody is told exactly this, which names the layer. */
function told(claim: string, layer: LayerNotation, expected: readonly string[], stored: Stored = {}): void {
  it(claim, async () => {
    const [good, odd] = layersOf(["a d/b l→d", layer]);
    const tar = Buffer.concat([odd!.tar, Buffer.from(stored.tail ?? "")]);
    const { store = gzipSync, mediaType = mediaTypes.ociLayerGzip } = stored;
    const blob = store(tar);
    const layout = await writeLayout([{ tar: good!.tar }, { tar, blob, mediaType }]);
    const where = `layer 2 of 2, ${digestOf(blob).slice(0, "sha256:".length + 12)}...: `;
    const below = (name: string) => path.join(layout.dir, name);

    const found: Record<string, readonly string[]> = {};
    const settings = { cacheDir: below("cache of the index") };
    for (const time of ["first", "second"])
      found[`indexed the ${time} time`] = (await indexImage({ image: layout.name, settings })).warnings;
    for (const mode of unpackModes) {
      const settings = { cacheDir: below(`cache of ${mode}`) };
      // The second directory comes from what the first has left in the cache, and there is nothing to do for the third call.
      for (const [time, directory] of Object.entries({ first: "1", second: "2", third: "2" })) {
        const unpacked = await unpackImage({
          ...{ image: layout.name, mode, settings },
          directory: below(`${mode} ${directory}`),
        });
        found[`unpacked in ${mode} mode the ${time} time`] = unpacked.warnings;
      }
    }
    for (const [way, warnings] of Object.entries(found)) {
      const unread = stored.ofBlob && /copy mode the (second|third)/.test(way);
      expect(warnings, way).toEqual(unread ? [] : expected.map((sentence) => where + sentence));
    }
    await removeTempDir(layout.dir);
  });
}

told("of ordinary layers there is nothing to say", "x .wh.a d/.wh..wh..opq l/y h=d/b .wh..wh.aufs", []);

told("of .. in a name, and in the target of a hard link", "../x d/../y h=d/../d/b", [
  '"../x" has .. parts in its name: taken as inside the image',
  '"d/../y" has .. parts in its name: taken as inside the image',
  '"h" has .. parts in its target: taken as inside the image',
]);

told(
  "of whiteouts that are no regular files",
  [".wh.a/", { path: ".wh.b", type: "fifo" }, "d/.wh..wh..opq→x"],
  [
    '".wh.a/" has the name of a whiteout but is a directory: taken as content',
    '".wh.b" has the name of a whiteout but is a fifo: taken as content',
    '"d/.wh..wh..opq" has the name of a whiteout but is a symlink: taken as content',
  ],
);

told(
  "of attributes that overlayfs would obey, and of those of users where Linux has none",
  [
    { path: "f", xattrs: { "trusted.overlay.opaque": "y", "user.overlay.x": "y", "user.u": "u" } },
    { path: "p", type: "fifo", xattrs: { "user.u": "u", "trusted.t": "t" } },
    { path: "s", link: "f", xattrs: { "user.u": "u" } },
    { path: "g", xattrs: { "security.selinux": "of the machine that made it" } },
  ],
  [
    '"f" has the extended attribute "trusted.overlay.opaque", left out: overlayfs would obey it',
    '"f" has the extended attribute "user.overlay.x", left out: overlayfs would obey it',
    '"p" has the extended attribute "user.u", left out: Linux has those of users for files and directories only',
    '"s" has the extended attribute "user.u", left out: Linux has those of users for files and directories only',
  ],
);

told(
  "of an unknown type of entry, and of one that is left out",
  [
    { path: "u", typeflag: "Z", content: "u" },
    { path: "v", typeflag: "V" },
  ],
  ['"u" is of the unknown type "Z" and taken for a file', '"v" is a GNU volume label and was left out'],
);

told(
  "of bytes behind the end of the tar",
  "x",
  ["there are bytes behind the end of the tar; they were ignored"],
  { tail: "t".repeat(1000) },
);

told(
  "of bytes behind the last gzip member",
  "x",
  ["1000 bytes behind the end of its gzip data were ignored"],
  { store: (tar) => Buffer.concat([gzipSync(tar), Buffer.alloc(1000, "t")]), ofBlob: true },
);

const stores: Readonly<Record<string, (tar: Buffer) => Buffer>> = {
  gzip: (tar) => gzipSync(tar),
  zstd: (tar) => zstd(tar),
  "a plain tar": (tar) => tar,
};
for (const [said, mediaType] of [
  ["gzip", mediaTypes.ociLayerGzip],
  ["zstd", mediaTypes.ociLayerZstd],
  ["a plain tar", mediaTypes.ociLayerTar],
] as const)
  for (const [is, store] of Object.entries(stores)) {
    const claim = said === is ? `not of ${is} that is called so` : `of ${is} that is called ${said}`;
    const warnings = said === is ? [] : [`its media type ${mediaType} says ${said}, its bytes are ${is}`];
    told(claim, "x", warnings, { store, mediaType, ofBlob: true });
  }
