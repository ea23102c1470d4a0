/**
 * reference -> archive file: resolve the image, index the layers that are not indexed yet, merge them into one tree, find out what a start needs,
 * write the archive. Nothing is written but the archive (beside, then renamed), the layer indexes, which later images share, and what was read
 * to find out, which goes to the span cache.
 */
import { access, mkdir } from "node:fs/promises";
import path from "node:path";
import { decodeArchive } from "../archive/archive-reader.js";
import {
  type ArchiveContents,
  archivePieces,
  encodeArchive,
  withAccounts,
  withStartSpans,
  writeArchive,
} from "../archive/archive-writer.js";
import { SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { pickDefined } from "../base/pick-defined.js";
import { noProgress, type Progress } from "../base/progress.js";
import { resolveSettings, type Settings, type SettingsInput } from "../base/settings.js";
import type { ImageConfig } from "../image/config.js";
import type { Digest } from "../image/digest.js";
import { type Platform, platformText } from "../image/platform.js";
import { parseReference, referenceText } from "../image/reference.js";
import type { LayerIndex } from "../layer/layer-index.js";
import { LayerIndexer } from "../layer/layer-indexer.js";
import { LayerStore } from "../layer/layer-store.js";
import { loadNative } from "../native/load.js";
import type { ImageSource, ResolvedImage } from "../registry/image-source.js";
import { openImageSource } from "../registry/open-image-source.js";
import { mergeLayers } from "../tree/merge-layers.js";
import { noteChecked, storedArchiveFile } from "./archive-store.js";
import { configOf } from "./image-config.js";
import { noteMeaning } from "./known-names.js";
import { startFactsOf } from "./start-facts.js";

export interface IndexImageOptions {
  /** Name of an image, as on the command line. */
  readonly image: string;
  /** Archive to write; default: the one of this image in the cache directory. */
  readonly output?: string;
  /** Default: this host's. */
  readonly platform?: Platform;
  readonly settings?: SettingsInput;
  readonly progress?: Progress;
  readonly logger?: Logger;
  readonly signal?: AbortSignal;
}

/** What `skim index --json` prints. Bytes are sums over the layers of the manifest, those of the start set are compressed ones. */
export interface IndexedImage {
  /** Path of the archive. */
  readonly archive: string;
  readonly manifestDigest: Digest;
  /** `os/arch[/variant]` */
  readonly platform: string;
  readonly layers: number;
  /** Inodes of the image: files, directories, links, devices. */
  readonly files: number;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  readonly archiveBytes: number;
  /** What a start of the image's command needs. */
  readonly startSpans: number;
  readonly startBytes: number;
  readonly durationMs: number;
  readonly warnings: readonly string[];
}

/**
 * Indexes an image into an archive. Throws what the registry, layer, tree and archive rooms throw; on any failure an archive that was
 * there before is untouched.
 */
export async function indexImage(options: IndexImageOptions): Promise<IndexedImage> {
  const settings = resolveSettings(options.settings);
  const source = await openImageSource(parseReference(options.image), {
    settings,
    logger: options.logger ?? silentLogger,
  });
  try {
    const started = performance.now();
    const image = await source.resolve(pickDefined({ platform: options.platform, signal: options.signal }));
    const indexed = await indexResolvedImage(source, image, { ...options, started });
    const { cacheDir } = settings;
    if (!options.output)
      await noteMeaning(cacheDir, source.reference, options.platform, image.manifestDigest);
    return indexed;
  } finally {
    await source.close();
  }
}

/** The part of `indexImage` behind resolving, for callers that have resolved already. */
export async function indexResolvedImage(
  source: ImageSource,
  image: ResolvedImage,
  options: Omit<IndexImageOptions, "image"> & { started?: number },
): Promise<IndexedImage> {
  const started = options.started ?? performance.now();
  const settings = resolveSettings(options.settings);
  const logger = options.logger ?? silentLogger;
  const output = options.output
    ? path.resolve(options.output)
    : storedArchiveFile(settings.cacheDir, image.manifestDigest, settings.spanBytes);
  if (options.output) await requireDirectoryOf(output);
  else await makeArchiveDirectory(output);

  const config = configOf(image);
  const store = new LayerStore(settings.cacheDir);
  const indexer = new LayerIndexer({ store, native: loadNative(), settings, logger });
  try {
    const layers = await indexer.index(
      source,
      image.layers.map((descriptor, i) => ({ descriptor, diffId: config.diffIds[i]! })),
      {
        spanBytes: settings.spanBytes,
        progress: options.progress ?? noProgress,
        ...pickDefined({ signal: options.signal }),
      },
    );
    return await archiveOfLayers(layers, {
      ...{ source, image, config, settings, logger, output, started },
      signal: options.signal,
    });
  } finally {
    await indexer.settled();
  }
}

interface ArchiveOfLayersOptions {
  readonly source: ImageSource;
  readonly image: ResolvedImage;
  readonly config: ImageConfig;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly output: string;
  readonly started: number;
  readonly signal: AbortSignal | undefined;
}

/** Merges `layers`, finds the start set and writes the archive. */
async function archiveOfLayers(
  layers: readonly LayerIndex[],
  { source, image, config, settings, logger, output, started, signal }: ArchiveOfLayersOptions,
): Promise<IndexedImage> {
  const tree = mergeLayers(layers.map((layer) => ({ digest: layer.digest, entries: layer.entries })));
  signal?.throwIfAborted();

  const warnings = [...layers.flatMap((layer) => layer.warnings), ...tree.warnings];
  const contents: ArchiveContents = {
    reference: referenceText(image.reference),
    platform: image.platform,
    manifestDigest: image.manifestDigest,
    manifestMediaType: image.manifestMediaType,
    manifestBytes: image.manifestBytes,
    configBytes: image.configBytes,
    spanBytes: settings.spanBytes,
    layers: layers.map((index, i) => ({ index, descriptorMediaType: image.layers[i]!.mediaType })),
    tree,
    warnings,
  };
  const encoded = encodeArchive(contents);
  const archive = decodeArchive(Buffer.concat(archivePieces(encoded)), "that is being made");
  const { set, accounts } = await startFactsOf(archive, { source, config, settings, logger, signal });
  const withSet = withStartSpans(encoded, set.spans);
  const { archiveBytes, fileIdentity } = await writeArchive(
    output,
    accounts ? withAccounts(withSet, accounts) : withSet,
    pickDefined({ signal }),
  );
  // Neither changes anything in the tree.
  await noteChecked({ file: fileIdentity, totals: archive.totals }, settings.cacheDir);
  const durationMs = Math.round(performance.now() - started);
  logger.info({ reference: contents.reference, archive: output, archiveBytes, durationMs }, "image indexed");
  return {
    archive: output,
    manifestDigest: image.manifestDigest,
    platform: platformText(image.platform),
    layers: layers.length,
    files: archive.inodeCount,
    compressedBytes: layers.reduce((sum, layer) => sum + layer.compressedBytes, 0),
    uncompressedBytes: layers.reduce((sum, layer) => sum + layer.uncompressedBytes, 0),
    archiveBytes,
    startSpans: set.spans.length,
    startBytes: set.compressedBytes,
    durationMs,
    warnings,
  };
}

/** Before anything is fetched: a mistyped output path is known at once, not after minutes. */
async function requireDirectoryOf(file: string): Promise<void> {
  const directory = path.dirname(file);
  await access(directory).catch((cause: unknown) => {
    throw new SkimError(
      "LOCAL_IO",
      `cannot write archive ${file}: no directory ${directory}; make it first`,
      { cause },
    );
  });
}

async function makeArchiveDirectory(file: string): Promise<void> {
  const directory = path.dirname(file);
  await mkdir(directory, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new SkimError(
      "LOCAL_IO",
      `cannot write to the cache directory ${directory}; choose another one with --cache-dir, or name the archive with -o`,
      { cause },
    );
  });
}
