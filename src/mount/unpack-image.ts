/**
 * reference -> directory with all files of the image: the v1 way to a root filesystem, for hosts where nothing can be mounted, and what lazy starts
 * are compared with. Resolve the image; if the directory is that image already, there is nothing to do; else build the tree beside it (src/unpack), and let it
 * take the directory's place.
 */
import { SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { pickDefined } from "../base/pick-defined.js";
import type { Progress } from "../base/progress.js";
import { resolveSettings, type SettingsInput } from "../base/settings.js";
import type { Digest } from "../image/digest.js";
import { type Platform, platformText } from "../image/platform.js";
import { parseReference, type Reference, referenceText } from "../image/reference.js";
import { loadNative } from "../native/load.js";
import type { ResolvedImage } from "../registry/image-source.js";
import { openImageSource } from "../registry/open-image-source.js";
import { Destination, resolveDestination } from "../unpack/destination.js";
import { type UnpackMode, unpackLayers, unpackModes } from "../unpack/layer-modes.js";
import { type Ownership, possibleOwnership } from "../unpack/ownership.js";
import { readStamp, type Stamp } from "../unpack/stamp.js";
import { lookAtLimits } from "./disk-cache.js";
import { configOf } from "./image-config.js";

export interface UnpackImageOptions {
  /** Name of an image, as on the command line. */
  readonly image: string;
  /** Becomes the root directory of the image: nothing, an empty directory, or one that was unpacked before. Its parent must be there. */
  readonly directory: string;
  /**
   * `copy`: layers are extracted into a store in the cache directory, once for all images, and shared (reflinks) or copied from there. `extract`: into
   * the directory, without a store. `auto` (default): `copy`, or `extract` where the store cannot be used. The trees are the same.
   */
  readonly mode?: (typeof unpackModes)[number];
  /** Default: this host's. */
  readonly platform?: Platform;
  readonly settings?: SettingsInput;
  readonly progress?: Progress;
  readonly logger?: Logger;
  readonly signal?: AbortSignal;
}

/** What `skim unpack --json` prints. */
export interface UnpackedImage {
  /** Absolute, without symlinks. */
  readonly directory: string;
  readonly manifestDigest: Digest;
  /** `os/arch[/variant]` */
  readonly platform: string;
  /** The directory had this image already, and was not touched. */
  readonly unchanged: boolean;
  /** How the directory was made, and why so. */
  readonly mode: UnpackMode;
  readonly reason: string;
  /** `kept`: files have their owners. `recorded`: they are in `user.containers.override_stat`, since only root can set them. */
  readonly ownership: Ownership;
  readonly layers: number;
  /** Of these, how many were in the store already. */
  readonly layersReused: number;
  /** Inodes of the image: files, directories, links, devices. */
  readonly files: number;
  /** That were read from the registry or layout. */
  readonly fetchedBytes: number;
  /** Bytes of files that share their blocks with the store (reflinks), and that were copied from there. */
  readonly sharedBytes: number;
  readonly copiedBytes: number;
  readonly durationMs: number;
  readonly warnings: readonly string[];
}

/**
 * Unpacks an image. On any failure the directory is as it was. Throws what resolving, LayerPasses, mergeLayers, ExtractedLayers, writeTree and
 * Destination throw.
 */
export async function unpackImage(options: UnpackImageOptions): Promise<UnpackedImage> {
  const started = performance.now();
  const mode = options.mode ?? "auto";
  if (!unpackModes.includes(mode))
    throw new SkimError("USAGE", `unknown mode ${mode}; one of ${unpackModes.join(", ")} is needed`);
  const reference = parseReference(options.image);
  const settings = resolveSettings(options.settings);
  const logger = options.logger ?? silentLogger;
  const { signal } = options;
  const ownership = possibleOwnership();
  const directory = await resolveDestination(options.directory);

  const pinned = pinnedMatch(reference, options.platform, ownership);
  const known = pinned && (await readStamp(directory));
  if (known && pinned(known)) return unchanged(directory, known, started);

  const source = await openImageSource(reference, { settings, logger });
  try {
    const image = await source.resolve(pickDefined({ platform: options.platform, signal }));
    const config = configOf(image);
    const isImage = (stamp: Stamp) =>
      stamp.manifestDigest === image.manifestDigest && stamp.ownership === ownership;
    const there = await readStamp(directory);
    if (there && isImage(there)) return unchanged(directory, there, started);

    const native = loadNative();
    const destination = await Destination.take(directory, native, signal);
    try {
      // Somebody else may have made it while this waited.
      const made = await destination.stamp();
      if (made && isImage(made)) return unchanged(directory, made, started);
      await destination.requireReplaceable();
      const { root, staging } = await destination.begin();
      const before = source.counters.bytes;
      const { written, ...unpacked } = await unpackLayers({
        source,
        layers: image.layers.map((descriptor, i) => ({ descriptor, diffId: config.diffIds[i]! })),
        mode,
        root,
        staging,
        directory,
        cacheDir: settings.cacheDir,
        ownership,
        settings,
        native,
        logger,
        ...pickDefined({ progress: options.progress, signal }),
      });
      await destination.finish({
        manifestDigest: image.manifestDigest,
        ...pickDefined({ requested: requestedText(reference, options.platform) }),
        platform: platformText(image.platform),
        ownership,
        mode: unpacked.mode,
        layers: image.layers.length,
        files: written.files,
        warnings: [...unpacked.warnings],
      });
      if (unpacked.mode === "copy") await lookAtLimits(settings, logger);
      const result = {
        directory,
        ...identityOf(image),
        unchanged: false,
        mode: unpacked.mode,
        reason: unpacked.reason,
        ownership,
        layers: image.layers.length,
        layersReused: unpacked.layersReused,
        files: written.files,
        fetchedBytes: source.counters.bytes - before,
        sharedBytes: written.clonedBytes,
        copiedBytes: written.copiedBytes + written.writtenBytes,
        durationMs: Math.round(performance.now() - started),
        warnings: unpacked.warnings,
      };
      const { warnings: _, ...facts } = result;
      logger.info({ reference: referenceText(reference), ...facts }, "image unpacked");
      return result;
    } finally {
      await destination.release();
    }
  } finally {
    await source.close();
  }
}

function identityOf(image: ResolvedImage) {
  return { manifestDigest: image.manifestDigest, platform: platformText(image.platform) };
}

/** What tells a stamp of the image that a reference with a digest names, without a look at the registry; undefined without a digest. */
function pinnedMatch(
  { digest }: Reference,
  platform: Platform | undefined,
  ownership: Ownership,
): ((stamp: Stamp) => boolean) | undefined {
  if (!digest) return undefined;
  const requested = requestedText({ digest }, platform);
  return (stamp) =>
    stamp.ownership === ownership &&
    (stamp.requested === requested ||
      (stamp.manifestDigest === digest && (!platform || stamp.platform === platformText(platform))));
}

function requestedText(
  { digest }: Pick<Reference, "digest">,
  platform: Platform | undefined,
): string | undefined {
  return digest && `${digest} ${platform ? platformText(platform) : "of the host"}`;
}

function unchanged(directory: string, stamp: Stamp, started: number): UnpackedImage {
  return {
    directory,
    manifestDigest: stamp.manifestDigest,
    platform: stamp.platform,
    unchanged: true,
    mode: stamp.mode,
    reason: "the directory has this image already",
    ownership: stamp.ownership,
    layers: stamp.layers,
    layersReused: 0,
    files: stamp.files,
    fetchedBytes: 0,
    sharedBytes: 0,
    copiedBytes: 0,
    durationMs: Math.round(performance.now() - started),
    warnings: stamp.warnings,
  };
}
