import fc from "fast-check";
import { expect, it } from "vitest";
import type { ByteString } from "../../src/base/byte-string.js";
import { isSkimError } from "../../src/base/errors.js";
import { digestOf } from "../../src/image/digest.js";
import type { LayerEntry } from "../../src/layer/layer-index.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { mergeLayers } from "../../src/tree/merge-layers.js";
import { type ModelEntry, modelMerge } from "./reference-model.js";

// Few names, so that entries meet: most runs have replaced links, hidden targets and links to links.
const name = fc.constantFrom("a", "b", "c");
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const parent = fc.array(name, { maxLength: 2 }).map((parts) => parts.map((part) => `${part}/`).join(""));
const target = fc.oneof(
  path,
  path.map((text) => `/${text}`),
  path.map((text) => `../${text}`),
);
const entry: fc.Arbitrary<Omit<ModelEntry, "value"> & { readonly value?: string }> = fc.oneof(
  fc.record({ path, type: fc.constantFrom("file" as const, "directory" as const) }),
  fc.record({ path, type: fc.constant("symlink" as const), value: target }),
  fc.record({ path, type: fc.constant("hardlink" as const), value: path }),
  fc.record({
    path: fc.tuple(parent, fc.constantFrom(".wh.a", ".wh.b", ".wh..wh..opq")).map((parts) => parts.join("")),
    type: fc.constant("file" as const),
  }),
);
const stack = fc.array(fc.array(entry, { maxLength: 7 }), { minLength: 1, maxLength: 4 });

const { SKIM_RUNS: runs, SKIM_SEED: seed } = process.env;

it("random stacks of random layers give the tree that the plain reference model gives", () => {
  let trees = 0;
  const property = fc.property(stack, (drafts) => {
    let count = 0;
    const layers = drafts.map((layer) => layer.map((draft) => ({ value: String(++count), ...draft })));
    const expected = modelMerge(layers);
    const actual = merged(layers);
    if (actual !== "error") trees++;
    expect(actual === "error" ? actual : listed(actual)).toEqual(
      expected === "error" ? expected : modelListed(expected),
    );
  });
  // A failure prints its seed and path; SKIM_SEED runs it again, SKIM_RUNS runs more of them.
  fc.assert(property, {
    numRuns: Number(runs ?? 500),
    ...(seed ? { seed: Number(seed) } : {}),
  });
  expect(trees).toBeGreaterThan(50);
});

function merged(layers: ReadonlyArray<readonly ModelEntry[]>): TreeNode | "error" {
  try {
    return mergeLayers(
      layers.map((layer) => ({ digest: digestOf(Buffer.from("")), entries: layer.map(entryOf) })),
    ).root;
  } catch (error) {
    if (isSkimError(error, "LAYER_CORRUPT")) return "error";
    throw error;
  }
}

/** The value of a file or directory travels in its mtime. */
function entryOf({ path, type, value }: ModelEntry): LayerEntry {
  const isLink = type === "symlink" || type === "hardlink";
  return {
    path: path as ByteString,
    type,
    mode: 0o755,
    uid: 0,
    gid: 0,
    fileBytes: 0,
    mtimeSec: isLink ? 0 : Number(value),
    mtimeNsec: 0,
    linkTarget: (isLink ? value : "") as ByteString,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    extents: [],
  };
}

/** Each path with its type, value, and the first path of the same inode. */
type Listing = Array<readonly [path: string, type: string, value: string, firstName: string]>;

function listed(root: TreeNode): Listing {
  const names = new Map<string, TreeNode>();
  const add = (dir: TreeNode, prefix: string) => {
    for (const [child, node] of dir.children ?? []) {
      names.set(prefix + child, node);
      add(node, `${prefix}${child}/`);
    }
  };
  add(root, "");
  return withFirstNames(names, (node) => [
    node.type,
    node.type === "symlink" ? node.linkTarget : node.mtimeSec === 0 ? "implied" : String(node.mtimeSec),
  ]);
}

function modelListed(names: Exclude<ReturnType<typeof modelMerge>, "error">): Listing {
  return withFirstNames(names, ({ type, value }) => [type, value]);
}

function withFirstNames<Thing>(
  names: ReadonlyMap<string, Thing>,
  shown: (thing: Thing) => [type: string, value: string],
): Listing {
  const first = new Map<Thing, string>();
  return [...names.keys()].sort().map((path) => {
    const thing = names.get(path)!;
    if (!first.has(thing)) first.set(thing, path);
    return [path, ...shown(thing), first.get(thing)!] as const;
  });
}
