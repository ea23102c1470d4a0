/**
 * What an archive says of a start, found in an image that is being indexed: the set of what its own command needs, and who it runs as. The layers went by when they were
 * indexed and were not kept, so that the heads and tables of programs are fetched once more, as ranges: some ten requests and some megabytes (a layer that can only be read
 * from its start may take up to 64 MiB). They go to the span cache, where the first start on this host finds them.
 */
import { accountsBytesMax, type ImageAccounts } from "../archive/accounts.js";
import type { Archive } from "../archive/archive.js";
import { byteStringFromText } from "../base/byte-string.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { SpanCache } from "../cache/span-cache.js";
import { type Content, openContent } from "../content/content.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { ImageConfig } from "../image/config.js";
import { loadNative } from "../native/load.js";
import { findCommand } from "../program/find-command.js";
import { type ImageFile, ProgramImage } from "../program/program-image.js";
import { spansOfRange } from "../program/span-ranges.js";
import { commandOf, type StartCommand, type StartSet, startSpans } from "../program/start-spans.js";
import type { ImageSource } from "../registry/image-source.js";
import { findFile } from "./image-file.js";
import { startCommand } from "./start-command.js";

const likelyPaths = [
  "/etc/passwd",
  "/etc/group",
  "/etc/ld.so.cache",
  "/lib64/ld-linux-x86-64.so.2",
  "/lib/ld-linux-aarch64.so.1",
  "/lib/ld-musl-x86_64.so.1",
  "/lib/ld-musl-aarch64.so.1",
];
/** Where headers are, and the table of sections. */
const endBytes = 4096;

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
    // The search goes from one file to the next; these come beside it.
    const willRead = (file: ImageFile) =>
      void content.prefetch(spansOfEnds(archive, file), signal ?? new AbortController().signal);
    for (const file of likelyFiles(archive, command)) willRead(file);
    const finding = Promise.all([
      startSpans({
        ...{ archive, content, command, reproducible: true, willRead },
        ...(signal ? { signal } : {}),
      }),
      accountsOf(archive, content, signal),
    ]);
    const [set, accounts] = await finding.catch((error: unknown) => {
      signal?.throwIfAborted();
      throw error;
    });
    await undo.unwind();
    return { set, accounts };
  });
}

/** What the search comes to in nearly every image. */
function likelyFiles(archive: Archive, command: StartCommand): ImageFile[] {
  const image = new ProgramImage(new ImageFilesystem({ archive, content: undefined }));
  const program = findCommand(image, byteStringFromText(command.args[0] ?? ""), commandOf(command)).file;
  const files = likelyPaths.map((file) => image.find(byteStringFromText(file)).file);
  return [program, ...files].filter((file) => file !== undefined);
}

function spansOfEnds(archive: Archive, { ino, bytes }: ImageFile): number[] {
  const ends = [0, Math.max(0, bytes - endBytes)];
  const ranges = ends.map((start) => ({ start, end: Math.min(start + endBytes, bytes) }));
  return ranges.flatMap((range) => Array.from(spansOfRange(archive, ino, range), ({ span }) => span));
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
