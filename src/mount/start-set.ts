/**
 * The start set of an image that is being indexed: what its own command needs. The layers went by when they were indexed and were not kept, so that the
 * heads and tables of programs are fetched once more, as ranges: some ten requests and some megabytes (a layer that can only be read from its start
 * may take up to 64 MiB). They go to the span cache, where the first start on this host finds them.
 */
import type { Archive } from "../archive/archive.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { SpanCache } from "../cache/span-cache.js";
import { openContent } from "../content/content.js";
import type { ImageConfig } from "../image/config.js";
import { loadNative } from "../native/load.js";
import { type StartSet, startSpans } from "../program/start-spans.js";
import type { ImageSource } from "../registry/image-source.js";
import { startCommand } from "./start-command.js";

export interface StartSetOptions {
  /** Stays the caller's. */
  readonly source: ImageSource;
  readonly config: ImageConfig;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly signal: AbortSignal | undefined;
}

/** Rejects as reading the image does: which set it would have been is not known then. */
export async function startSetOf(archive: Archive, options: StartSetOptions): Promise<StartSet> {
  const { source, settings, logger, signal } = options;
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const cache = await SpanCache.open(settings.cacheDir, { logger });
    undo.defer(() => cache.close());
    const content = openContent({ archive, source, cache, native: loadNative(), settings, logger });
    undo.defer(() => content.close());
    const command = startCommand(options.config);
    const finding = startSpans({
      archive,
      content,
      command,
      reproducible: true,
      ...(signal ? { signal } : {}),
    });
    const set = await finding.catch((error: unknown) => {
      signal?.throwIfAborted();
      throw error;
    });
    await undo.unwind();
    return set;
  });
}
