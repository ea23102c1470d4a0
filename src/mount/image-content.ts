/** Verified bytes of an image, for a process that reads them itself instead of through a mount. */
import type { Archive } from "../archive/archive.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { type Content, openContent } from "../content/content.js";
import { parseReference, withDigest } from "../image/reference.js";
import { loadNative } from "../native/load.js";
import type { ImageSource } from "../registry/image-source.js";
import { openImageSource } from "../registry/open-image-source.js";
import { openDiskCache } from "./disk-cache.js";

export interface ImageContentOptions {
  /** Stays the caller's. */
  readonly archive: Archive;
  /** Name of the image whose registry or layout serves the layers. */
  readonly source: string;
  readonly settings: Settings;
  readonly logger: Logger;
  /** See ContentOptions. */
  readonly readAhead?: boolean;
}

export interface ImageContent {
  readonly content: Content;
  readonly source: ImageSource;
  close(): Promise<void>;
}

/** Source, cache and content of an archive, to be closed together. Nothing is fetched yet. */
export async function openImageContent(options: ImageContentOptions): Promise<ImageContent> {
  const { archive, settings, logger } = options;
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const pinned = withDigest(parseReference(options.source), archive.identity.manifestDigest);
    const source = await openImageSource(pinned, { settings, logger });
    undo.defer(() => source.close());
    const cache = openDiskCache(settings, logger);
    undo.defer(() => cache.close());
    const { readAhead = true } = options;
    const content = openContent({
      archive,
      source,
      cache: cache.spans,
      native: loadNative(),
      settings,
      logger,
      readAhead,
    });
    undo.defer(() => content.close());
    return { content, source, close: () => undo.unwind() };
  });
}
