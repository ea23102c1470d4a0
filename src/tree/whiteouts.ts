/**
 * Whiteouts of one layer: which entries are markers, and what they hide.
 *
 * `.wh.NAME` hides NAME, `.wh..wh..opq` all that its directory holds, and only what *lower* layers gave. So all markers of a layer are
 * applied to the tree before any of its entries, and it makes no difference where in the layer they stand. For the same reason every marker
 * first gets its place in the untouched lower tree, and only then is anything hidden.
 *
 * A marker's directory may be reached through a symbolic link of a lower layer (`lib/.wh.x` where `lib` leads to `usr/lib`). But when this
 * layer replaces or hides that link, nothing that a lower layer gave stands below its name any more: overlayfs marks a directory that took
 * a link's place as opaque, and following the old link would empty whatever it led to.
 *
 * Source: image-spec layer.md, "Whiteouts"; SEMANTICS.md. `.wh..wh.*` other than opaque are AUFS's own files: never visible, but hard
 * links may point at them.
 */
import type { ByteString } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import type { LayerEntry } from "../layer/layer-index.js";
import type { TreeNode } from "./image-tree.js";
import type { LayerReport } from "./layer-report.js";
import { foldPath, type LinkRule, type PathWalker, splitPath } from "./path-resolution.js";

const whiteoutPrefix = ".wh.";
const aufsPrefix = ".wh..wh.";
const opaqueName = ".wh..wh..opq";
/** They would hide nothing that has a name: the directory, itself, its parent. */
const refusedNames: ReadonlySet<string> = new Set([".wh.", ".wh..", ".wh..."]);

/** Hides `name` in the directory that `parent` leads to, or all that is in it where `name` is undefined. */
export interface Marker {
  readonly parent: ByteString;
  readonly name: ByteString | undefined;
}

/** The entries of a layer that are not content. */
export interface SpecialEntries {
  readonly markers: ReadonlyMap<LayerEntry, Marker>;
  readonly aufs: ReadonlySet<LayerEntry>;
}

/** Whether a path leads to or through one of AUFS's own files. */
export function isAufsPath(path: ByteString): boolean {
  return path.includes(aufsPrefix) && foldPath(path).some(isAufsName);
}

function isAufsName(name: ByteString): boolean {
  return name.startsWith(aufsPrefix) && name !== opaqueName;
}

/**
 * Finds markers and AUFS files. Throws LAYER_CORRUPT for `.wh.`, `.wh..` and `.wh...`, whatever their type.
 *
 * A marker is a regular file, or a hard link: AUFS made all whiteouts of a branch links of one file, and docker's tars of such branches
 * have them as links. Anything else of such a name is content, with a warning.
 */
export function findSpecialEntries(entries: readonly LayerEntry[], report: LayerReport): SpecialEntries {
  const markers = new Map<LayerEntry, Marker>();
  const aufs = new Set<LayerEntry>();
  for (const entry of entries) {
    if (!entry.path.includes(whiteoutPrefix)) continue;
    const parts = foldPath(entry.path);
    if (parts.some((part) => refusedNames.has(part))) {
      const found = "would be a whiteout of nothing, which no tool makes; the layer has to be built again";
      throw report.error("LAYER_CORRUPT", entry.path, found);
    }
    const name = parts.pop();
    if (name === undefined) continue;
    if (isAufsName(name) || parts.some(isAufsName)) aufs.add(entry);
    else if (!name.startsWith(whiteoutPrefix)) continue;
    else if (entry.type === "file" || entry.type === "hardlink") {
      const hidden = name === opaqueName ? undefined : (name.slice(whiteoutPrefix.length) as ByteString);
      if (hidden !== undefined && hidden.length > limits.nameBytesMax)
        throw report.nameTooLong(entry.path, hidden);
      markers.set(entry, { parent: parts.join("/") as ByteString, name: hidden });
    } else {
      report.warn(entry.path, `has the name of a whiteout but is a ${entry.type}: taken as content`);
    }
  }
  return { markers, aufs };
}

/** Hides what the markers of a layer say. To be called before any entry of that layer is applied. */
export function hideLowerNames(
  special: SpecialEntries,
  entries: readonly LayerEntry[],
  walker: PathWalker,
  keepDirlinks: boolean,
): void {
  let replacedLinks: ReplacedLinks | undefined;
  const linkRule: LinkRule = (dir, name, link) => {
    replacedLinks ??= findReplacedLinks(special, entries, walker);
    const names = replacedLinks.get(dir);
    if (!names?.has(name)) return link.linkTarget;
    const entry = names.get(name);
    if (entry?.type === "symlink") return entry.linkTarget;
    return keepDirlinks && entry?.type === "directory" ? link.linkTarget : undefined;
  };

  const directories = new Map<ByteString, TreeNode | undefined>();
  const places: Array<{ readonly dir: TreeNode; readonly name: ByteString | undefined }> = [];
  for (const { parent, name } of special.markers.values()) {
    if (!directories.has(parent)) directories.set(parent, walker.directoryAt(parent, linkRule));
    const dir = directories.get(parent);
    if (dir) places.push({ dir, name });
  }
  for (const { dir, name } of places) {
    if (name === undefined) dir.children!.clear();
    else dir.children!.delete(name);
  }
}

/** Symbolic links of lower layers that this layer gives anew (with the last entry of that name) or hides (undefined). */
type ReplacedLinks = ReadonlyMap<TreeNode, ReadonlyMap<ByteString, LayerEntry | undefined>>;

function findReplacedLinks(
  special: SpecialEntries,
  entries: readonly LayerEntry[],
  walker: PathWalker,
): ReplacedLinks {
  const found = new Map<TreeNode, Map<ByteString, LayerEntry | undefined>>();
  let lastParent: ByteString | undefined;
  let dir: TreeNode | undefined;
  const note = (parent: ByteString, name: ByteString, entry: LayerEntry | undefined) => {
    if (parent !== lastParent) dir = walker.directoryAt(parent);
    lastParent = parent;
    if (dir?.children?.get(name)?.type !== "symlink") return;
    const names = found.get(dir) ?? new Map<ByteString, LayerEntry | undefined>();
    found.set(dir, names.set(name, entry));
  };
  for (const { parent, name } of special.markers.values()) {
    if (name !== undefined) note(parent, name, undefined);
  }
  // After the markers: what a layer both hides and gives, it gives.
  for (const entry of entries) {
    const place = special.markers.has(entry) || special.aufs.has(entry) ? undefined : splitPath(entry.path);
    if (place) note(place.parent, place.name, entry);
  }
  return found;
}
