/**
 * The process behind one mount.
 *
 * It serves until its mount is gone (whoever unmounts it), or until it is told to shut down by the control socket or a signal. It never
 * touches what it mounts: no stat, no open, no readdir; it would wait for itself.
 */
import type { Logger } from "../base/logger.js";
import { StartMarks } from "../base/start-marks.js";
import { UndoStack } from "../base/undo-stack.js";
import { openEngine } from "../fuse/engine.js";
import type { FuseEngineName } from "../fuse/engine-names.js";
import { serveControlSocket } from "./control-socket.js";
import { openDiskCache } from "./disk-cache.js";
import { type MountStats, type ServeImageOptions, serveImage } from "./serve-image.js";

export interface MountServerOptions extends Omit<ServeImageOptions, "cache" | "logger" | "connect"> {
  readonly mountpoint: string;
  readonly engine: FuseEngineName;
  /** A line in the log for each FUSE operation. */
  readonly traceOperations?: boolean;
  /** Where the control socket goes; none when undefined. */
  readonly socketFile?: string;
}

export interface MountServer {
  /** Resolves when the mount is gone and everything is closed. */
  readonly ended: Promise<void>;
  /** Unmounts, which fails with IN_USE while somebody has files open in it, unless told to `force`. */
  shutdown(options?: { readonly force?: boolean }): Promise<void>;
  stats(): Promise<MountStats>;
}

/** Mounts and serves. Resolves when the kernel has the mount (FUSE_INIT is answered); on failure nothing is left. */
export async function startMountServer(
  options: MountServerOptions,
  hostLogger: Logger,
  marks: StartMarks = new StartMarks(),
): Promise<MountServer> {
  const undo = new UndoStack();
  // All that is written for this mount, by whatever part, says so: a process may serve several.
  const logger = hostLogger.child({ mount: options.id });
  marks.set("told");
  return await undo.guard(async () => {
    const { settings } = options;
    const cache = openDiskCache(settings, logger);
    undo.defer(() => cache.close());
    const engine = openEngine(options.engine);
    const image = await serveImage({
      ...options,
      cache,
      logger,
      marks,
      connect: (served) =>
        engine.mount(served, {
          mountpoint: options.mountpoint,
          allowOther: true,
          fsName: `skim:${options.id}`,
          logger,
          traceOperations: options.traceOperations ?? false,
        }),
    });
    undo.defer(() => image.session.unmount());
    const { session } = image;
    if (options.socketFile) {
      const socket = await serveControlSocket(options.socketFile, async (request) => {
        if (request.operation === "stats") return { ...(await image.stats()) };
        if (request.operation === "start") return { ...image.start() };
        await session.unmount({ force: request.force });
        return {};
      });
      undo.defer(() => socket.close());
    }
    logger.info({ archive: options.archive, mountpoint: options.mountpoint, engine: engine.name }, "mounted");
    const ended = image.ended.then(() => undo.unwind());
    ended.catch(() => {});
    return { ended, shutdown: (how) => session.unmount(how), stats: image.stats };
  });
}
