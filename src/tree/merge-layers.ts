import type { Digest } from "../image/digest.js";
import type { LayerEntry } from "../layer/layer-index.js";
import { layerName } from "../layer/layer-name.js";
import type { ImageTree } from "./image-tree.js";
import { LayerApplier } from "./layer-applier.js";
import { LayerReport } from "./layer-report.js";
import { PathWalker } from "./path-resolution.js";
import { impliedDirectory } from "./tree-node.js";

export interface MergeOptions {
  /**
   * A directory entry over a symbolic link that leads to a directory describes that directory, where it otherwise takes the
   * link's place. For layers that were made on different bases (`/lib` here, `/lib -> usr/lib` there). Default false.
   */
  readonly keepDirlinks?: boolean;
}

/**
 * Applies layers, base layer first, to an empty root directory (0755, 0:0, mtime 0) and returns the tree of the image. The rules, with the
 * reasons where tools differ, are in the files of this room: whiteouts.ts, hard-links.ts, path-resolution.ts, layer-applier.ts.
 *
 * The entries are only read; extents and xattrs are shared with them. Does not block on anything, but computes for about a second
 * per 500,000 entries. Throws LAYER_CORRUPT for what has no meaning and LIMIT_EXCEEDED for what no Linux filesystem could hold,
 * both naming the layer and the path; no tree comes out then.
 */
export function mergeLayers(
  layers: ReadonlyArray<{ readonly digest: Digest; readonly entries: readonly LayerEntry[] }>,
  { keepDirlinks = false }: MergeOptions = {},
): ImageTree {
  const root = impliedDirectory(0);
  const walker = new PathWalker(root);
  const warnings: string[] = [];
  for (const [position, layer] of layers.entries()) {
    const report = new LayerReport(layerName(layer.digest, position, layers.length));
    new LayerApplier(walker, report, position, keepDirlinks).apply(layer.entries);
    warnings.push(...report.warnings);
  }
  return { root, warnings };
}
