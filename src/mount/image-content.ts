/** Verified bytes of an image, for a process that reads them itself instead of through a mount. */
import type { Archive } from "../archive/archive.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import type { SpanCache } from "../cache/span-cache.js";
import { type Content, openContent, type SharedContentParts } from "../content/content.js";
import { parseReference, withDigest } from "../image/reference.js";
import { loadNative } from "../native/load.js";
import { dockerCredentials } from "../registry/docker-credentials.js";
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
  /** Stays the caller's; default: a cache of its own in the directory of the settings. */
  readonly spans?: SpanCache;
  readonly shared?: SharedContentParts;
  /** Where credentials are looked for; default: this process's. */
  readonly environment?: NodeJS.ProcessEnv;
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
    const { readAhead = true, environment, shared } = options;
    const credentials = environment ? { credentials: dockerCredentials(environment) } : {};
    const source = await openImageSource(pinned, { settings, logger, ...credentials });
    undo.defer(() => source.close());
    let { spans } = options;
    if (!spans) {
      const cache = openDiskCache(settings, logger);
      undo.defer(() => cache.close());
      spans = cache.spans;
    }
    const content = openContent({
      archive,
      source,
      cache: spans,
      native: loadNative(),
      settings,
      logger,
      readAhead,
      ...(shared ? { shared } : {}),
    });
    undo.defer(() => content.close());
    return { content, source, close: () => undo.unwind() };
  });
}
