/**
 * An image served at one mount: archive + source + cache -> content -> filesystem -> session, and back in reverse order. Of one process with one mount
 * (mount-server.ts) and of one with many (src/control).
 *
 * Whoever serves never touches what it mounts: no stat, no open, no readdir; it would wait for itself.
 */
import { constants } from "node:os";
import type { Archive, TreeProof } from "../archive/archive.js";
import { openArchive } from "../archive/archive-reader.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { StartMarks } from "../base/start-marks.js";
import { UndoStack } from "../base/undo-stack.js";
import type { Presence } from "../content/background-fill.js";
import type { Content, SharedContentParts } from "../content/content.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { FuseSession, ServedImage } from "../fuse/fuse-session.js";
import { loadNative } from "../native/load.js";
import type { DiskCache } from "./disk-cache.js";
import { type FetchAhead, type FetchAheadOptions, isComplete, startFetchAhead } from "./fetch-ahead.js";
import { openImageContent } from "./image-content.js";
import { type MountObservation, observeMount, observeStart, type ServerStart } from "./mount-observation.js";

/**
 * When the kernel's read-ahead fails it reads once more for the process that waits: both together must keep its deadline.
 * (mm/filemap.c, filemap_get_pages: a page that is not up to date after read-ahead is read again.)
 */
const readsOfOneReader = 2;

export interface ServeImageOptions<Session extends FuseSession = FuseSession> extends FetchAheadOptions {
  readonly id: string;
  readonly archive: string;
  /** Of whoever has opened the archive before; see tree-proof.ts. */
  readonly proof?: TreeProof;
  /** Image whose registry or layout serves the layers; default: the one the archive was made from. */
  readonly source?: string;
  readonly settings: Settings;
  /** Where credentials are looked for; default: this process's. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Stays the caller's. */
  readonly cache: DiskCache;
  /** The start that this mount was made for is over: another server has served it. */
  readonly isStarted?: boolean;
  /** What images of one process share. */
  readonly shared?: SharedContentParts;
  readonly logger: Logger;
  /** Of the start that this mount is for; default: of none. */
  readonly marks?: StartMarks;
  /** Gives the image to the kernel. Resolves when FUSE_INIT is answered. */
  readonly connect: (image: ServedImage) => Promise<Session>;
}

export interface ServedImageMount<Session extends FuseSession = FuseSession> {
  readonly archive: Archive;
  readonly content: Content;
  readonly session: Session;
  readonly ahead: FetchAhead;
  /** Resolves when the mount is gone, or the session was let go, and everything is closed. */
  readonly ended: Promise<void>;
  stats(): Promise<MountStats>;
  /** What `skim stats --why` is made of. */
  start(): ServerStart;
}

/** What `skim stats` prints: bytes are compressed bytes from the registry unless named otherwise. */
export interface MountStats extends MountObservation {
  readonly id: string;
  readonly reference: string;
  readonly imageBytes: number;
  readonly archiveBytes: number;
  readonly content: Record<string, number>;
  readonly registry: { readonly requests: number; readonly bytes: number };
  /** FUSE requests by operation. */
  readonly operations: Record<string, number>;
  /** What was fetched before the start asked for it, and by what it was known. */
  readonly replayed: FetchAhead["replayed"];
  /** How much of the image is in the cache. */
  readonly presence: Presence;
  /** All of it: the registry is not needed any more. */
  readonly complete: boolean;
}

/** Serves until the mount is gone. On failure nothing is left. */
export async function serveImage<Session extends FuseSession>(
  options: ServeImageOptions<Session>,
): Promise<ServedImageMount<Session>> {
  const { settings, logger, marks = new StartMarks() } = options;
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const archive = await openArchive(options.archive, options.proof ? { proof: options.proof } : {});
    undo.defer(() => archive.close());
    const { content, source, close } = await openImageContent({
      archive,
      readAhead: options.prefetch !== "none",
      source: options.source ?? archive.identity.reference,
      settings: {
        ...settings,
        readDeadlineMs: Math.ceil(settings.readDeadlineMs / readsOfOneReader),
      },
      spans: options.cache.spans,
      ...(options.shared ? { shared: options.shared } : {}),
      ...(options.environment ? { environment: options.environment } : {}),
      logger,
    });
    undo.defer(close);
    const { cacheDir } = settings;
    const { isStarted = false } = options;
    const ahead = startFetchAhead({ archive, content, cacheDir, logger, options, isStarted });
    undo.defer(async () => ahead.close());
    marks.set("serverOpened");

    // What is wedged can be asked for even when JavaScript is; whatever the engine, the signal must not end the process.
    loadNative().printSessionsOn(constants.signals.SIGUSR2);
    const filesystem = new ImageFilesystem({ archive, content });
    const session = await options.connect({ archive, content, filesystem });
    marks.set("mounted");
    ahead.fill();
    const counts = () => ({
      id: options.id,
      reference: archive.identity.reference,
      imageBytes: archive.layers.reduce((sum, layer) => sum + layer.compressedBytes, 0),
      archiveBytes: archive.archiveBytes,
      content: sumOf(content.counters.snapshot(), session.served()),
      registry: { requests: source.counters.requests, bytes: source.counters.bytes },
      operations: session.operations.snapshot(),
      replayed: ahead.replayed,
    });
    const observed = {
      archive,
      content,
      source,
      marks,
      evictions: options.cache.evictions,
    };
    const ended = session.ended.then(async () => {
      logger.info(counts(), "unmounted");
      await undo.unwind();
    });
    ended.catch(() => {});
    return {
      archive,
      content,
      session,
      ahead,
      ended,
      stats: async () => {
        const presence = await content.presence();
        return { ...counts(), ...observeMount(observed), presence, complete: isComplete(presence) };
      },
      start: () => observeStart(observed),
    };
  });
}

function sumOf(
  counts: Record<string, number>,
  more: Readonly<Record<string, number>>,
): Record<string, number> {
  const sum = { ...counts };
  for (const [name, count] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}
