/**
 * The engine that skim mounts with: the addon's own threads speak the FUSE protocol, and answer from the archive and the cache without JavaScript
 * (native/fuse/session.h). What is here is what begins and ends such a session, and brings the spans that are missing.
 *
 * `serve` takes over a connection that another process has mounted, or served before: that is how a server is replaced under a mount in use.
 */
import { closeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { invariant, SkimError } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import { loadNative } from "../native/load.js";
import { connectFuse, type FuseConnection, throwIfAborted } from "./fuse-connection.js";
import type { FuseEngine, FuseMountOptions, FuseSession, ServedImage } from "./fuse-session.js";
import { waitingRequests } from "./kernel-connection.js";
import { findMount } from "./mount-table.js";
import { NativeSession } from "./native-session.js";
import { raiseReadAhead } from "./read-ahead.js";
import { MNT_DETACH, MNT_FORCE } from "./umount-flags.js";

/** A connection that is mounted already. */
export interface HandedConnection {
  /** Of /dev/fuse. Taken over, also when serving fails. */
  readonly descriptor: number;
  /** Where it is mounted. */
  readonly mountpoint: string;
  /**
   * `NativeSession.initResult` of the server before; undefined for a connection that nobody has served yet, or whose server died before it
   * could tell anybody.
   */
  readonly initResult?: Uint8Array;
}

/** FUSE_INIT has been answered, and nobody knows what was agreed; see NativeBinding.sessionStart. */
const unknownInitResult = new Uint8Array(16);

export class NativeEngine implements FuseEngine {
  readonly name = "native";
  readonly #loadNative: () => NativeBinding;

  constructor(parts: { loadNative?: () => NativeBinding } = {}) {
    this.#loadNative = parts.loadNative ?? loadNative;
  }

  async mount(image: ServedImage, options: FuseMountOptions): Promise<FuseSession> {
    throwIfAborted(options);
    const native = this.#loadNative();
    const connection = await connectFuse(options, native);
    let session: NativeSession;
    try {
      session = this.#start(image, connection, options, undefined);
    } catch (error) {
      await native.umount(connection.mount.mountpoint, MNT_FORCE | MNT_DETACH);
      throw error;
    }
    await session.untilReady(options.signal);
    raiseReadAhead(connection.mount, options.logger);
    options.logger.info(
      { mountpoint: session.mountpoint, engine: this.name, fsName: options.fsName },
      "mounted",
    );
    return session;
  }

  /**
   * Serves a connection that is there already, and resolves when FUSE_INIT is answered, now or before. Requests that the server before has read and not answered
   * are sent again, where the kernel can (Linux 6.9); elsewhere they wait until the mount ends. Throws MOUNT_FAILED where the mount is gone; CANCELLED, and
   * unmounts, where the signal is aborted before FUSE_INIT. Where it throws anything else, the mount is as it was, for others to serve.
   */
  async serve(
    image: ServedImage,
    connection: HandedConnection,
    options: Pick<FuseMountOptions, "logger" | "traceOperations" | "signal">,
  ): Promise<NativeSession> {
    const { descriptor, mountpoint, initResult } = connection;
    const mount = findMount(mountpoint);
    if (mount?.type !== "fuse.skim") {
      closeSync(descriptor);
      throw new SkimError(
        "MOUNT_FAILED",
        `cannot take over the mount at ${mountpoint}: it is not there any more`,
      );
    }
    // Until it is answered, FUSE_INIT itself waits.
    const agreed = initResult ?? (waitingRequests(mount.deviceMinor) === 0 ? unknownInitResult : undefined);
    const session = this.#start(image, { descriptor, mount }, options, agreed);
    // Where FUSE_INIT is awaited it may be one of those that a server before has read.
    const isResent = session.resend();
    if (!agreed) {
      await session.untilReady(options.signal);
      raiseReadAhead(mount, options.logger);
    } else if (!isResent)
      options.logger.warn(
        { mountpoint },
        "this kernel cannot send requests again: those that the server before had not answered wait until the mount ends",
      );
    return session;
  }

  #start(
    image: ServedImage,
    connection: FuseConnection,
    options: Pick<FuseMountOptions, "logger" | "traceOperations">,
    initResult: Uint8Array | undefined,
  ): NativeSession {
    return new NativeSession({
      native: this.#loadNative(),
      image,
      connection,
      threads: threadsFor(availableParallelism()),
      trace: options.traceOperations ?? false,
      initResult: initResult ?? new Uint8Array(0),
      logger: options.logger,
    });
  }
}

/**
 * Twice the processors: a worker that reads from a cold disk or verifies a span must not keep another from answering a lookup. Four at least, for
 * the same reason on small machines; beyond sixteen they only wait for the kernel's one queue.
 */
function threadsFor(processors: number): number {
  invariant(processors > 0, "a machine has a processor");
  return Math.min(Math.max(2 * processors, 4), 16);
}
