/**
 * Random trees with everything that an image can hold. A draft of a tree is a list of entries that name their directories and
 * targets by number, so that every list is a tree, and stays one when fast-check takes entries out of it.
 */
import fc from "fast-check";
import { byteStringFromText } from "../../src/base/byte-string.js";
import { limits } from "../../src/base/limits.js";
import type { LayerExtent, Xattr } from "../../src/layer/layer-index.js";
import type { NodeType, TreeNode } from "../../src/tree/image-tree.js";
import { directory, node, raw } from "../archive/sample-archive.js";
import { randomBytes } from "../native/blobs.js";
import { type DescribedTree, treePaths } from "../support/write-tree.js";

/** Four spans of 1 MiB and a bit. */
const layer = randomBytes(4 * 2 ** 20 + 1234, 7);

/** What of a tree fuse-native cannot show as it is (SEMANTICS.md): names that are not UTF-8, nanoseconds, times before 1970. */
export type TreeKind = "passable to every engine" | "with anything in it";

interface Draft {
  readonly parent: number;
  readonly name: string;
  readonly type: NodeType | "hard link";
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly fileBytes: number;
  readonly pieces: ReadonlyArray<{
    readonly gap: number;
    readonly length: number;
    readonly layerOffset: number;
  }>;
  readonly target: { readonly kind: string; readonly to: number };
  readonly device: readonly [number, number];
  readonly xattrs: readonly Xattr[];
}

/** Devices that no driver has, and two that do no harm: /dev/null and /dev/zero. */
const devices = [
  [1, 3],
  [1, 5],
  [4095, 1_048_575],
  [4095, 0],
] as const;

const borders = [
  0,
  1,
  2,
  511,
  4095,
  4096,
  4097,
  131_071,
  131_072,
  131_073,
  2 ** 20 - 1,
  2 ** 20,
  2 ** 20 + 1,
];
const fileBytes = fc.oneof(
  { arbitrary: fc.constantFrom(...borders, 3 * 2 ** 20 + 5), weight: 2 },
  fc.nat(300_000),
);
const pieces = fc.array(
  fc.record({
    gap: fc.oneof(fc.constant(0), fc.nat(150_000)),
    length: fc.oneof(fc.constantFrom(...borders.slice(1)), fc.integer({ min: 1, max: 200_000 })),
    layerOffset: fc.oneof(fc.constantFrom(0, 2 ** 20 - 1, 2 ** 20, 2 ** 21 - 100), fc.nat(layer.length)),
  }),
  { maxLength: 4 },
);

const ids = fc.constantFrom(0, 1, 1234, 65_534, 4_000_000_000, 4_294_967_294);
const asciiName = fc.constantFrom(
  "a",
  "b",
  "A",
  "lib",
  "usr",
  "...",
  "-x",
  " ",
  "a\nb",
  "back\\",
  "etc",
  "x".repeat(255),
);
const textName = fc
  .string({ unit: "binary", minLength: 1, maxLength: 60 })
  .map((text) => byteStringFromText(text) as string);
const byteName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"));

const isName = (name: string) => !/^\.{1,2}$|[/\0]/.test(name) && name.length <= 255;
/** U+FFFD stands for bytes that are not UTF-8 in fuse-native. */
const isPassable = (name: string) => isName(name) && !name.includes("\xef\xbf\xbd");

const value = fc.oneof(
  byteName.map((bytes) => bytes.slice(0, 100)),
  fc.constantFrom("", "\0", "v".repeat(4096), "long ".repeat(13_000)),
);

function xattrs(kind: TreeKind): fc.Arbitrary<readonly Xattr[]> {
  const word = kind === "with anything in it" ? byteName : fc.constantFrom("a", "b", "name", "n".repeat(200));
  const name = fc
    .tuple(fc.constantFrom("user", "trusted", "security"), word)
    .map(([space, rest]) => `${space}.${rest.replaceAll("\0", "0").slice(0, 200)}`);
  return fc.oneof(
    { arbitrary: fc.constant([]), weight: 2 },
    fc.uniqueArray(fc.record({ name: name.map(raw), value: value.map(raw) }), {
      maxLength: 4,
      selector: (one) => one.name,
    }),
  );
}

function draft(kind: TreeKind): fc.Arbitrary<Draft> {
  const everything = kind === "with anything in it";
  return fc.record({
    parent: fc.nat(),
    name: everything
      ? fc.oneof(asciiName, textName, byteName).filter(isName)
      : fc.oneof({ arbitrary: asciiName, weight: 2 }, textName).filter(isPassable),
    type: fc.constantFrom<Draft["type"]>(
      ...(["file", "file", "file", "directory", "directory", "symlink", "symlink"] as const),
      ...(["hard link", "fifo", "character", "block"] as const),
    ),
    mode: fc.oneof(fc.constantFrom(0o644, 0o755, 0, 0o7777), fc.nat(0o7777)),
    uid: ids,
    gid: ids,
    mtimeSec: everything ? fc.integer({ min: -(2 ** 34), max: 2 ** 34 }) : fc.nat(2 ** 31 - 1),
    mtimeNsec: everything ? fc.nat(999_999_999) : fc.nat(999).map((ms) => ms * 1_000_000),
    fileBytes,
    pieces,
    target: fc.record({
      kind: fc.constantFrom("node", "node", "node", "self", "dangling", "absolute", "up", "long", "through"),
      to: fc.nat(),
    }),
    device: fc.constantFrom(...devices),
    xattrs: xattrs(kind),
  });
}

/** Trees of up to a hundred names. */
export function randomTree(kind: TreeKind): fc.Arbitrary<DescribedTree> {
  return fc
    .array(draft(kind), { minLength: 20, maxLength: 100, size: "max" })
    .map((drafts) => ({ root: built(drafts), bytes: layer }));
}

function built(drafts: readonly Draft[]): TreeNode {
  const root = directory({}, { mtimeSec: 1_500_000_000 });
  const directories = [root];
  const links: Array<[TreeNode, Draft]> = [];
  const linkable: TreeNode[] = [];
  for (const one of drafts) {
    const children = directories[one.parent % directories.length]!.children!;
    const name = raw(one.name);
    if (children.has(name)) continue;
    const made = one.type === "hard link" ? linkable[one.target.to % linkable.length] : nodeOf(one, one.type);
    if (!made) continue;
    children.set(name, made);
    if (one.type === "hard link") continue;
    if (made.type === "directory") directories.push(made);
    else linkable.push(made);
    if (made.type === "symlink") links.push([made, one]);
  }
  aimLinks(root, links);
  return root;
}

function nodeOf(one: Draft, type: NodeType): TreeNode {
  const { mode, uid, gid, mtimeSec, mtimeNsec } = one;
  const isDevice = type === "character" || type === "block";
  const extents = type === "file" ? extentsOf(one) : [];
  // The kernel has user attributes on files and directories only.
  const hasUser = type === "file" || type === "directory";
  const kept = one.xattrs.filter(({ name }) => hasUser || !name.startsWith("user."));
  return node(type, {
    mode: type === "symlink" ? 0o777 : mode,
    uid,
    gid,
    mtimeSec,
    mtimeNsec,
    fileBytes: type === "file" ? one.fileBytes : 0,
    extents,
    xattrs: [...kept].sort((a, b) => (a.name < b.name ? -1 : 1)),
    ...(isDevice ? { deviceMajor: one.device[0], deviceMinor: one.device[1] } : {}),
  });
}

function extentsOf({ pieces, fileBytes }: Draft): LayerExtent[] {
  const extents: LayerExtent[] = [];
  let end = 0;
  for (const { gap, length, layerOffset } of pieces) {
    const fileOffset = end + gap;
    const fitting = Math.min(length, fileBytes - fileOffset, layer.length - layerOffset);
    if (fitting <= 0) continue;
    extents.push({ fileOffset, layerOffset, length: fitting });
    end = fileOffset + fitting;
  }
  return extents;
}

/** Gives each link its target, now that all paths are there. None leads out of the tree but the absolute ones, to nothing. */
function aimLinks(root: TreeNode, links: ReadonlyArray<readonly [TreeNode, Draft]>): void {
  const paths = treePaths(root).map(([path]) => path);
  for (const [link, { target }] of links) {
    const own = treePaths(root).find(([, found]) => found === link)![0];
    const up = "../".repeat(own.split("/").length - 1);
    const other = paths[target.to % paths.length]!;
    const targets: Record<string, string> = {
      node: `${up}${other}` || ".",
      self: own.split("/").at(-1)!,
      dangling: `${up}${other}/nothing`,
      absolute: `/skim-test-nowhere/${other}`,
      up: up ? ".." : ".",
      long: `${"./".repeat(2000)}${up}${other}`,
      through: `${up}${other}/.`,
    };
    // One that is too long is not cut: half a character would be a name that not every engine can pass on.
    const chosen = targets[target.kind]!;
    link.linkTarget = raw(
      chosen.length <= limits.symlinkBytesMax ? chosen : "t".repeat(limits.symlinkBytesMax),
    );
  }
}
