/**
 * The process behind one mount: archive + source + cache -> content -> filesystem -> engine, and back in reverse order.
 *
 * It serves until its mount is gone (whoever unmounts it), or until it is told to shut down by the control socket or a signal. It never
 * touches what it mounts: no stat, no open, no readdir; it would wait for itself.
 */
import { constants } from "node:os";
import type { TreeProof } from "../archive/archive.js";
import { openArchive } from "../archive/archive-reader.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import type { Presence } from "../content/background-fill.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import { openEngine } from "../fuse/engine.js";
import type { FuseEngineName } from "../fuse/engine-names.js";
import { loadNative } from "../native/load.js";
import { serveControlSocket } from "./control-socket.js";
import { type FetchAhead, type FetchAheadOptions, isComplete, startFetchAhead } from "./fetch-ahead.js";
import { openImageContent } from "./image-content.js";

/**
 * When the kernel's read-ahead fails it reads once more for the process that waits: both together must keep its deadline.
 * (mm/filemap.c, filemap_get_pages: a page that is not up to date after read-ahead is read again.)
 */
const readsOfOneReader = 2;

export interface MountServerOptions extends FetchAheadOptions {
  readonly id: string;
  readonly archive: string;
  /** Of whoever has opened the archive before; see tree-proof.ts. */
  readonly proof?: TreeProof;
  /** Image whose registry or layout serves the layers; default: the one the archive was made from. */
  readonly source?: string;
  readonly mountpoint: string;
  readonly engine: FuseEngineName;
  /** A line in the log for each FUSE operation. */
  readonly traceOperations?: boolean;
  /** Where the control socket goes; none when undefined. */
  readonly socketFile?: string;
  readonly settings: Settings;
}

export interface MountServer {
  /** Resolves when the mount is gone and everything is closed. */
  readonly ended: Promise<void>;
  /** Unmounts, which fails with IN_USE while somebody has files open in it, unless told to `force`. */
  shutdown(options?: { readonly force?: boolean }): Promise<void>;
  stats(): Promise<MountStats>;
}

/** What `skim stats` prints: bytes are compressed bytes from the registry unless named otherwise. */
export interface MountStats {
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

/** Mounts and serves. Resolves when the kernel has the mount (FUSE_INIT is answered); on failure nothing is left. */
export async function startMountServer(options: MountServerOptions, logger: Logger): Promise<MountServer> {
  const undo = new UndoStack();
  return await undo.guard(async () => {
    const archive = await openArchive(options.archive, options.proof ? { proof: options.proof } : {});
    undo.defer(() => archive.close());
    const { cacheDir } = options.settings;
    const { content, source, close } = await openImageContent({
      archive,
      readAhead: options.prefetch !== "none",
      source: options.source ?? archive.identity.reference,
      settings: {
        ...options.settings,
        readDeadlineMs: Math.ceil(options.settings.readDeadlineMs / readsOfOneReader),
      },
      logger,
    });
    undo.defer(close);
    const ahead = startFetchAhead({ archive, content, cacheDir, logger, options });
    undo.defer(async () => ahead.close());

    // What is wedged can be asked for even when JavaScript is; whatever the engine, the signal must not end the process.
    loadNative().printSessionsOn(constants.signals.SIGUSR2);
    const engine = openEngine(options.engine);
    const filesystem = new ImageFilesystem({ archive, content });
    const session = await engine.mount(
      { archive, content, filesystem },
      {
        mountpoint: options.mountpoint,
        allowOther: true,
        fsName: `skim:${options.id}`,
        logger,
        traceOperations: options.traceOperations ?? false,
      },
    );
    undo.defer(() => session.unmount());
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
    const stats = async (): Promise<MountStats> => {
      const presence = await content.presence();
      return { ...counts(), presence, complete: isComplete(presence) };
    };
    if (options.socketFile) {
      const socket = await serveControlSocket(options.socketFile, async (request) => {
        if (request.operation === "stats") return { ...(await stats()) };
        await session.unmount({ force: request.force });
        return {};
      });
      undo.defer(() => socket.close());
    }
    logger.info({ archive: options.archive, mountpoint: options.mountpoint, engine: engine.name }, "mounted");

    const ended = session.ended.then(async () => {
      logger.info(counts(), "unmounted");
      await undo.unwind();
    });
    ended.catch(() => {});
    return { ended, shutdown: (how) => session.unmount(how), stats };
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
