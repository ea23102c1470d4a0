/**
 * What a command is given: the file of an archive, or the name of an image. An image is indexed first where this host has no archive of it
 * yet; that is the only step of a mount that needs the registry.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import type { Archive } from "../archive/archive.js";
import { SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { pickDefined } from "../base/pick-defined.js";
import type { Progress } from "../base/progress.js";
import { resolveSettings, type SettingsInput } from "../base/settings.js";
import type { StartMarks } from "../base/start-marks.js";
import { type Platform, platformEquals } from "../image/platform.js";
import { parseReference, type Reference, referenceText, withDigest } from "../image/reference.js";
import type { KnownImage } from "../registry/image-source.js";
import { openChecked, openStoredArchive } from "./archive-store.js";
import { noteMeaning } from "./known-names.js";

export interface OpenImageOptions {
  readonly settings?: SettingsInput;
  readonly platform?: Platform;
  readonly progress?: Progress;
  readonly logger?: Logger;
  readonly signal?: AbortSignal;
  /** Are set on the way. */
  readonly marks?: StartMarks;
  /** What the name may mean; this is what is returned where it does, and not asked for again. */
  readonly likely?: OpenedImage;
}

export interface OpenedImage {
  readonly archiveFile: string;
  /** To be closed by the caller. */
  readonly archive: Archive;
  /** Name of the image whose registry serves the layers. */
  readonly source: string;
}

/** Throws as indexImage and openArchive do; NOT_FOUND for a path that names no file. */
export async function openImageOrArchive(name: string, options: OpenImageOptions = {}): Promise<OpenedImage> {
  const { marks } = options;
  marks?.set("searching");
  const file = await archiveFileNamed(name);
  if (!file) {
    const opened = await openImage(name, options);
    marks?.set("opened");
    return opened;
  }
  marks?.set("resolved");
  const archive = await openChecked(file, resolveSettings(options.settings).cacheDir);
  marks?.set("opened");
  return { archiveFile: file, archive, source: archive.identity.reference };
}

async function openImage(name: string, options: OpenImageOptions): Promise<OpenedImage> {
  const settings = resolveSettings(options.settings);
  const { cacheDir, spanBytes } = settings;
  const { platform, likely } = options;
  const reference = parseReference(name);
  const kept = await openKeptArchive(reference, cacheDir, spanBytes, platform);
  if (kept) return kept;
  // Loaded here: a start from an archive asks no registry, and indexes nothing.
  const { openImageSource } = await import("../registry/open-image-source.js");
  const source = await openImageSource(reference, { settings, logger: options.logger ?? silentLogger });
  try {
    const image = await source.resolve(
      pickDefined({ platform, signal: options.signal, known: likely && knownOf(likely.archive) }),
    );
    const { manifestDigest } = image;
    options.marks?.set("resolved");
    await noteMeaning(cacheDir, reference, platform, manifestDigest);
    if (likely?.archive.identity.manifestDigest === manifestDigest) return likely;
    const pinned = referenceText(withDigest(reference, manifestDigest));
    const stored = await openStoredArchive(cacheDir, manifestDigest, spanBytes);
    if (stored) return { archiveFile: stored.file, archive: stored.archive, source: pinned };
    const { indexResolvedImage } = await import("./index-image.js");
    const indexed = await indexResolvedImage(source, image, options);
    return {
      archiveFile: indexed.archive,
      archive: await openChecked(indexed.archive, cacheDir),
      source: pinned,
    };
  } finally {
    await source.close();
  }
}

function knownOf({ identity, manifest, manifestBytes, configBytes }: Archive): KnownImage {
  const { manifestDigest, manifestMediaType } = identity;
  return {
    manifestDigest,
    manifestMediaType,
    manifestBytes,
    configDigest: manifest.config.digest,
    configBytes,
  };
}

/** A reference with the digest of a manifest that is indexed already needs no registry at all. */
async function openKeptArchive(
  reference: Reference,
  cacheDir: string,
  spanBytes: number,
  platform: Platform | undefined,
): Promise<OpenedImage | undefined> {
  if (!reference.digest) return undefined;
  const stored = await openStoredArchive(cacheDir, reference.digest, spanBytes);
  if (!stored) return undefined;
  if (platform && !platformEquals(platform, stored.archive.identity.platform)) {
    await stored.archive.close();
    return undefined;
  }
  return { archiveFile: stored.file, archive: stored.archive, source: referenceText(reference) };
}

/** The absolute path when `name` is a file; undefined when it can only be an image. */
export async function archiveFileNamed(name: string): Promise<string | undefined> {
  const file = path.resolve(name);
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile()) return file;
  const looksLikePath = /^\.{0,2}\//.test(name) || name.endsWith(".skim");
  if (!looksLikePath) return undefined;
  throw new SkimError(
    "NOT_FOUND",
    `no archive at ${file}${found ? " (not a file)" : ""}; make one with: skim index IMAGE -o ${name}`,
  );
}
