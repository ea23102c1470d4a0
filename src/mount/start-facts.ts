/**
 * What an archive says of a start, found in an image that is being indexed: the set of what its own command needs, and who it runs as. The layers went by when they were
 * indexed and were not kept, so that the heads and tables of programs are fetched once more, as ranges: some ten requests and some megabytes (a layer that can only be read
 * from its start may take up to 64 MiB). They go to the span cache, where the first start on this host finds them.
 */
import { accountsBytesMax, type ImageAccounts } from "../archive/accounts.js";
import type { Archive } from "../archive/archive.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { SpanCache } from "../cache/span-cache.js";
import { type Content, openContent } from "../content/content.js";
import type { ImageConfig } from "../image/config.js";
import { loadNative } from "../native/load.js";
import { type StartSet, startSpans } from "../program/start-spans.js";
import type { ImageSource } from "../registry/image-source.js";
import { findFile } from "./image-file.js";
import { startCommand } from "./start-command.js";

export interface StartFacts {
  readonly set: StartSet;
  /** Undefined where they are too large for an archive. */
  readonly accounts: ImageAccounts | undefined;
}

export interface StartFactsOptions {
  /** Stays the caller's. */
  readonly source: ImageSource;
  readonly config: ImageConfig;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly signal: AbortSignal | undefined;
}

/** Rejects as reading the image does: what it would have been is not known then. */
export async function startFactsOf(archive: Archive, options: StartFactsOptions): Promise<StartFacts> {
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
    const onFailure = (error: unknown) => {
      signal?.throwIfAborted();
      throw error;
    };
    const set = await finding.catch(onFailure);
    // Last: most of it is in the cache by then, for it is in the set.
    const accounts = await accountsOf(archive, content, signal).catch(onFailure);
    await undo.unwind();
    return { set, accounts };
  });
}

async function accountsOf(
  archive: Archive,
  content: Pick<Content, "read">,
  signal: AbortSignal | undefined,
): Promise<ImageAccounts | undefined> {
  const [passwd, group] = ["/etc/passwd", "/etc/group"].map((file) => findFile(archive, file)?.ino);
  const sizeOf = (ino: number | undefined) => (ino === undefined ? 0 : archive.inode(ino).size);
  if (sizeOf(passwd) + sizeOf(group) > accountsBytesMax) return undefined;
  const textOf = async (ino: number | undefined) => {
    if (ino === undefined) return undefined;
    const into = Buffer.alloc(sizeOf(ino));
    const file = { extents: archive.extents(ino), fileBytes: into.length, offset: 0, into, aside: true };
    await content.read({ ...file, ...(signal ? { signal } : {}) });
    return into.toString("utf8");
  };
  return { passwd: await textOf(passwd), group: await textOf(group) };
}
