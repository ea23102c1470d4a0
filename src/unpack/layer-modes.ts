/**
 * The two ways from layers to a tree. Both read each layer once, merge the entries in memory as indexing does (src/tree), and write the final tree; they
 * differ in where the data of files wait for the merge to say which of them are wanted:
 *
 *   copy     in the store of extracted layers, from where they are shared or copied. The next image with the layer does not read it again.
 *   extract  in a staging directory beside the tree, from where they are renamed into it. Every byte is written once.
 */
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { noProgress, type Progress } from "../base/progress.js";
import { UndoStack } from "../base/undo-stack.js";
import { indexLayer, type LayerLimits, type LayerSink } from "../layer/index-layer.js";
import type { LayerExtent, LayerIndex } from "../layer/layer-index.js";
import { LayerPasses, type LayerToRead, type NamedLayer, type PassedLayer } from "../layer/layer-passes.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageSource } from "../registry/image-source.js";
import type { ImageTree, TreeNode } from "../tree/image-tree.js";
import { mergeLayers } from "../tree/merge-layers.js";
import { ContentSink } from "./content-sink.js";
import { type ExtractedLayer, ExtractedLayers } from "./extracted-layers.js";
import { stagedSource } from "./instructions.js";
import { LayerStoreError } from "./layer-store-error.js";
import { OffsetTable } from "./offset-table.js";
import type { Ownership } from "./ownership.js";
import { PackedLayout } from "./packed-layout.js";
import { type FileBytes, type WrittenTree, writeTree } from "./tree-writing.js";

export type UnpackMode = "copy" | "extract";
export const unpackModes = ["auto", "copy", "extract"] as const;

export interface UnpackLayersOptions {
  readonly source: Pick<ImageSource, "readBlob" | "rejectBytes">;
  /** Base layer first, each with its diffId. */
  readonly layers: readonly LayerToRead[];
  readonly mode: (typeof unpackModes)[number];
  /** An empty directory, which becomes the root. */
  readonly root: string;
  /** A name for a staging directory on the same filesystem: nothing is there yet. */
  readonly staging: string;
  /** Names the root in errors and warnings. */
  readonly directory: string;
  readonly cacheDir: string;
  readonly ownership: Ownership;
  readonly settings: LayerLimits;
  readonly native: NativeBinding;
  readonly logger: Logger;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

export interface UnpackedLayers {
  readonly mode: UnpackMode;
  /** Why this mode. */
  readonly reason: string;
  /** Of the layers, how many were in the store already. */
  readonly layersReused: number;
  readonly written: WrittenTree;
  readonly warnings: readonly string[];
}

/**
 * Unpacks layers. With `auto` the store is tried, and left aside where it cannot be used for a reason of its own (read-only, not permitted, no file
 * locks); not for what the other way would meet as well: a bad image, a registry that does not answer, a full disk.
 *
 * Throws as LayerPasses, mergeLayers, ExtractedLayers and writeTree do. What has been written then is the caller's to remove.
 */
export async function unpackLayers(options: UnpackLayersOptions): Promise<UnpackedLayers> {
  if (options.mode === "extract") return await extractMode(options, "asked for");
  try {
    return await copyMode(options);
  } catch (error) {
    if (options.mode === "copy" || !(error instanceof LayerStoreError)) throw error;
    options.logger.warn({ error: error.message }, "store of extracted layers not used");
    return await extractMode(options, error.message);
  }
}

async function copyMode(options: UnpackLayersOptions): Promise<UnpackedLayers> {
  const { native, cacheDir, logger, signal, progress = noProgress } = options;
  const store = new ExtractedLayers({ cacheDir, native, logger });
  await store.sweep();
  const opened: ExtractedLayer[] = [];
  try {
    const pass = async (layer: NamedLayer, passSignal: AbortSignal) => {
      const extracted = await store.obtain(
        diffIdOf(layer),
        async (directory) => {
          const layout = new PackedLayout();
          const place = (_: unknown, extent: LayerExtent) => ({ number: 0, offset: layout.place(extent) });
          const sink = new ContentSink(native, directory.fd, { place });
          const index = await readLayer(layer, sink, options, passSignal);
          return { index, dataCrc32: await sink.crc32 };
        },
        passSignal,
      );
      opened.push(extracted);
      if (extracted.reused) progress.start(layer.where, layer.descriptor.size).done("already extracted");
      // The store knows the layer by its diffId; people know it by what the manifest says.
      const index = { ...extracted.index, digest: layer.descriptor.digest };
      return { ...extracted, index, ...said(index, extracted.reused) };
    };
    const layers = await new LayerPasses<Awaited<ReturnType<typeof pass>>>().run(options.layers, {
      pass,
      purpose: "copy",
      doing: "unpacking layers",
      rejectBytes: options.source.rejectBytes?.bind(options.source),
      ...(signal ? { signal } : {}),
    });
    const tree = mergeLayers(layers.map(({ index }) => index));
    const bytesOf = (file: TreeNode): FileBytes => ({
      ranges: dataExtents(file).map((extent) => ({
        fileOffset: extent.fileOffset,
        source: file.layer,
        sourceOffset: layers[file.layer]!.layout.offsetOf(extent),
        length: extent.length,
      })),
    });
    const written = await write(options, tree, { sources: layers.map(({ data }) => data), bytesOf });
    const layersReused = layers.filter(({ reused }) => reused).length;
    const reason =
      layersReused === 0
        ? "no layer was in the store of extracted layers"
        : `${layersReused} of ${layers.length} layers were in the store of extracted layers`;
    return {
      mode: "copy",
      reason: options.mode === "copy" ? "asked for" : reason,
      layersReused,
      written,
      warnings: warningsOf(layers, tree, written),
    };
  } finally {
    await Promise.all(opened.map((layer) => layer.close()));
  }
}

async function extractMode(options: UnpackLayersOptions, reason: string): Promise<UnpackedLayers> {
  const { native, signal } = options;
  await mkdir(options.staging, { mode: 0o700 });
  const staging = await open(options.staging, "r");
  try {
    let files = 0;
    const pass = async (layer: NamedLayer, passSignal: AbortSignal) => {
      const numbers = new OffsetTable();
      let current: { readonly entry: unknown; readonly number: number } | undefined;
      const sink = new ContentSink(native, staging.fd, {
        place: (entry, extent) => {
          if (current?.entry !== entry) {
            current = { entry, number: files++ };
            numbers.add(extent.layerOffset, current.number);
          }
          return { number: current.number, offset: extent.fileOffset };
        },
      });
      const index = await readLayer(layer, sink, options, passSignal);
      return { index, numbers, ...said(index, false) };
    };
    const layers = await new LayerPasses<Awaited<ReturnType<typeof pass>>>().run(options.layers, {
      pass,
      purpose: "extract",
      doing: "unpacking layers",
      rejectBytes: options.source.rejectBytes?.bind(options.source),
      ...(signal ? { signal } : {}),
    });
    const tree = mergeLayers(layers.map(({ index }) => index));
    const numberOf = (file: TreeNode) => layers[file.layer]!.numbers.get(dataExtents(file)[0]!.layerOffset);
    // A layer that an image has twice is read once: of its files, two may have come to stay.
    const isTwice = new Set(options.layers.map(({ descriptor }) => descriptor.digest)).size < layers.length;
    const shared = isTwice ? numbersOfSeveral(tree, numberOf) : new Set<number>();
    const bytesOf = (file: TreeNode): FileBytes => {
      const number = numberOf(file);
      if (!shared.has(number)) return { staged: number };
      const source = stagedSource(number);
      return {
        ranges: dataExtents(file).map(({ fileOffset, length }) => ({
          fileOffset,
          source,
          sourceOffset: fileOffset,
          length,
        })),
      };
    };
    const written = await write(options, tree, { staging, bytesOf });
    return { mode: "extract", reason, layersReused: 0, written, warnings: warningsOf(layers, tree, written) };
  } finally {
    await staging.close();
  }
}

async function readLayer(
  layer: NamedLayer,
  sink: LayerSink,
  { source, settings, native, progress = noProgress }: UnpackLayersOptions,
  signal: AbortSignal,
): Promise<LayerIndex> {
  const { descriptor, where } = layer;
  const task = progress.start(where, descriptor.size);
  // A pass that fails may leave a read waiting for the network: this ends it.
  const ended = new AbortController();
  try {
    const index = await indexLayer(
      source.readBlob(descriptor, { signal: AbortSignal.any([signal, ended.signal]) }),
      {
        digest: descriptor.digest,
        size: descriptor.size,
        diffId: diffIdOf(layer),
        spanBytes: 0,
        settings,
        native,
        where,
        sink,
        progress: task,
        signal,
      },
    );
    task.done();
    return index;
  } catch (error) {
    task.done("failed");
    throw error;
  } finally {
    ended.abort();
  }
}

async function write(
  options: UnpackLayersOptions,
  tree: ImageTree,
  from: {
    readonly sources?: readonly FileHandle[];
    readonly staging?: FileHandle;
    readonly bytesOf: (file: TreeNode) => FileBytes;
  },
): Promise<WrittenTree> {
  const { native, ownership, directory, signal, progress = noProgress } = options;
  const undo = new UndoStack();
  try {
    const root = await open(options.root, "r");
    undo.defer(() => root.close());
    const sources = (from.sources ?? []).map(({ fd }) => fd);
    const writer = native.treeWriterOpen(root.fd, sources, from.staging?.fd ?? -1, ownership === "kept");
    undo.defer(() => native.treeWriterClose(writer));
    const task = progress.start(`writing ${directory}`, undefined);
    undo.defer(() => task.done());
    return await writeTree({
      native,
      writer,
      tree,
      ownership,
      bytesOf: from.bytesOf,
      directory,
      progress: task,
      ...(signal ? { signal } : {}),
    });
  } finally {
    await undo.unwind();
  }
}

/** What a pass has to say of its layer. A stored one may have come from another blob, which says nothing of this one. */
function said({ compression, trailingBytes, warnings }: LayerIndex, reused: boolean): PassedLayer {
  return reused
    ? { compression: undefined, trailingBytes: 0, warnings }
    : { compression, trailingBytes, warnings };
}

function warningsOf(
  layers: readonly PassedLayer[],
  tree: ImageTree,
  written: WrittenTree,
): readonly string[] {
  return [...layers.flatMap(({ warnings }) => warnings), ...tree.warnings, ...written.warnings];
}

function dataExtents(file: TreeNode): readonly LayerExtent[] {
  return file.extents.filter(({ length }) => length > 0);
}

/** The staged files that more than one inode of the tree is made of. */
function numbersOfSeveral(tree: ImageTree, numberOf: (file: TreeNode) => number): Set<number> {
  const owners = new Map<number, TreeNode>();
  const several = new Set<number>();
  const waiting = [tree.root];
  for (let node = waiting.pop(); node; node = waiting.pop()) {
    if (node.type === "file" && dataExtents(node).length > 0) {
      const number = numberOf(node);
      const owner = owners.get(number);
      if (owner !== undefined && owner !== node) several.add(number);
      owners.set(number, node);
    }
    for (const child of node.children?.values() ?? []) waiting.push(child);
  }
  return several;
}

function diffIdOf({ diffId, where }: NamedLayer): NonNullable<NamedLayer["diffId"]> {
  if (diffId !== undefined) return diffId;
  throw new SkimError("IMAGE_INVALID", `${where}: the image config has no diffId for it`);
}
