/** `skim cache warm`: all of an image's layers in the cache, before anybody mounts it. */

import { silentLogger } from "../base/logger.js";
import { noProgress, type Progress } from "../base/progress.js";
import { resolveSettings } from "../base/settings.js";
import type { Presence } from "../content/background-fill.js";
import type { ContentLayer } from "../content/content-archive.js";
import type { Digest } from "../image/digest.js";
import { openImageContent } from "./image-content.js";
import { type OpenImageOptions, openImageOrArchive } from "./image-or-archive.js";

export interface WarmImageOptions extends OpenImageOptions {
  /** File of an archive or name of an image. */
  readonly image: string;
  /** Image whose registry serves the layers instead of the one the archive names. */
  readonly source?: string;
}

export interface WarmedImage extends Presence {
  readonly reference: string;
  readonly manifestDigest: Digest;
  /** Compressed bytes that this call has fetched. */
  readonly fetchedBytes: number;
}

/** Resolves when the image is complete. Throws what indexing and fetching throw; what was fetched by then is kept. */
export async function warmImage(options: WarmImageOptions): Promise<WarmedImage> {
  const settings = resolveSettings(options.settings);
  const { signal = new AbortController().signal, progress = noProgress, logger = silentLogger } = options;
  const opened = await openImageOrArchive(options.image, options);
  try {
    const { archive } = opened;
    const { content, close } = await openImageContent({
      archive,
      source: options.source ?? opened.source,
      settings,
      logger,
    });
    try {
      const before = await content.presence();
      const tasks = new LayerTasks(progress);
      const presence = await content.fill({
        urgency: "ahead",
        signal,
        onProgress: (layer, bytes) => tasks.advance(layer, bytes),
      });
      signal.throwIfAborted();
      tasks.done();
      const { reference, manifestDigest } = archive.identity;
      const fetchedBytes = presence.presentCompressedBytes - before.presentCompressedBytes;
      return { reference, manifestDigest, ...presence, fetchedBytes };
    } finally {
      await close();
    }
  } finally {
    await opened.archive.close();
  }
}

/** A bar for each layer that has something missing. */
class LayerTasks {
  readonly #progress: Progress;
  readonly #tasks = new Map<Digest, ReturnType<Progress["start"]>>();

  constructor(progress: Progress) {
    this.#progress = progress;
  }

  advance(layer: ContentLayer, bytes: number): void {
    let task = this.#tasks.get(layer.digest);
    if (!task) {
      task = this.#progress.start(layer.digest, layer.compressedBytes);
      this.#tasks.set(layer.digest, task);
    }
    task.advance(bytes);
  }

  done(): void {
    for (const task of this.#tasks.values()) task.done();
  }
}
