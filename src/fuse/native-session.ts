/**
 * One mount of the native engine. The addon's threads tell what they lack, as indexes of spans; the content brings these, and they are handed down
 * or failed. Everything else they answer by themselves.
 *
 * The cache files of each layer are shown to the threads as soon as they are open, and taken away when they are given up.
 */
import { SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { ContentCounter } from "../content/counters.js";
import type { SpanDelivery } from "../content/span-delivery.js";
import { errnoNumberOf } from "../filesystem/errno-error.js";
import {
  type NativeBinding,
  SESSION_OPCODES,
  SessionEvent,
  type SessionHandle,
  sessionCounterNames,
} from "../native/binding.js";
import { FailureLog } from "./failure-log.js";
import type { FuseConnection } from "./fuse-connection.js";
import { type FuseSession, fuseOperations, type OperationCounts, type ServedImage } from "./fuse-session.js";
import { abortConnection } from "./kernel-connection.js";
import { MountedEntry, waitForEnd } from "./mounted-entry.js";

/** Reads that wait for the network when a session lets go get so long; a kernel that can send them again (Linux 6.9) loses nothing with less. */
const letGoLimitMs = 5_000;

export interface NativeSessionParts {
  readonly native: NativeBinding;
  readonly image: ServedImage;
  /** Its descriptor becomes the session's. */
  readonly connection: FuseConnection;
  readonly threads: number;
  readonly trace: boolean;
  /** Empty: FUSE_INIT is awaited. */
  readonly initResult: Uint8Array;
  readonly logger: Logger;
}

export class NativeSession implements FuseSession {
  readonly mountpoint: string;
  readonly ended: Promise<void>;
  readonly operations = { snapshot: () => this.#operationCounts() };
  readonly #native: NativeBinding;
  readonly #handle: SessionHandle;
  readonly #entry: MountedEntry;
  readonly #delivery: SpanDelivery;
  readonly #content: ServedImage["content"];
  readonly #failures: FailureLog;
  readonly #logger: Logger;
  readonly #initialized: Promise<void>;
  #onInitialized = () => {};
  #onRefused = (_minor: number) => {};
  #onEnded = () => {};
  #isEnded = false;
  #isLetGo = false;

  /** Throws what sessionStart does. */
  constructor(parts: NativeSessionParts) {
    const { native, image, connection, logger } = parts;
    const { archive, content } = image;
    this.mountpoint = connection.mount.mountpoint;
    this.#content = content;
    this.#native = native;
    this.#logger = logger;
    this.#failures = new FailureLog(logger);
    this.#initialized = new Promise((resolve, reject) => {
      this.#onInitialized = resolve;
      this.#onRefused = (minor) => reject(tooOld(minor));
    });
    this.#initialized.catch(() => {});
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
    const { inodes, dirents, names, extents, xattrs, xattrValues, layers, spans } = archive.servedSections();
    const tree = native.treeOpen(
      inodes,
      dirents,
      names,
      extents,
      xattrs,
      xattrValues,
      layers,
      spans,
      archive.totals.fileBytes,
    );
    this.#handle = native.sessionStart(
      connection.descriptor,
      tree,
      parts.threads,
      parts.trace,
      parts.initResult,
      connection.mount.source,
      (events) => this.#take(events),
    );
    // Events come in later turns of the event loop: by then all of this is there.
    this.#entry = new MountedEntry(connection.mount, native);
    this.#delivery = content.deliverTo({
      landed: (span, bytes) => native.sessionLanded(this.#handle, span, bytes),
      failed: (span, error) => this.#fail(span, error),
    });
    const stopWatching = content.watchFiles((layer, files) =>
      native.sessionAttach(this.#handle, layer, files ?? null),
    );
    void this.ended.then(stopWatching);
  }

  /** Resolves when FUSE_INIT has been answered. Otherwise unmounts, and throws CANCELLED or MOUNT_FAILED. */
  async untilReady(signal: AbortSignal | undefined): Promise<void> {
    let onAbort = () => {};
    const cancelled = new Promise<never>((_, reject) => {
      onAbort = () =>
        reject(
          new SkimError("CANCELLED", `mounting on ${this.mountpoint} was cancelled`, {
            cause: signal?.reason,
          }),
        );
      if (signal?.aborted) onAbort();
      signal?.addEventListener("abort", onAbort, { once: true });
    });
    const gone = this.ended.then(() => {
      throw new SkimError(
        "MOUNT_FAILED",
        `the mount on ${this.mountpoint} ended before it was ready: somebody else unmounted it`,
      );
    });
    cancelled.catch(() => {});
    gone.catch(() => {});
    try {
      await Promise.race([this.#initialized, gone, cancelled]);
    } catch (error) {
      await this.unmount({ force: true });
      throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async unmount({ force = false }: { force?: boolean } = {}): Promise<void> {
    if (this.#isEnded) return await this.#entry.removeDead(force);
    const wasMounted = await this.#entry.unmount(force);
    if (this.#isEnded) return;
    if (force && !wasMounted) abortConnection(this.#entry.deviceMinor);
    await waitForEnd(this.ended, this.mountpoint);
  }

  served(): Partial<Record<ContentCounter, number>> {
    const counts = this.#counts();
    return {
      reads_total: counts.reads,
      read_bytes_total: counts.readBytes,
      read_failures_total: counts.failedReads,
      disk_spans_total: counts.cachedSpans + counts.verifiedSpans,
    };
  }

  /**
   * Stops serving without ending the mount, which somebody else keeps (src/holder): no more requests are read, those that have been are answered; after
   * `limitMs` the rest are left for the session that comes next. Resolves, and `ended` with it, when no thread is left and the descriptor is closed.
   */
  async letGo(limitMs = letGoLimitMs): Promise<void> {
    if (this.#isEnded) return;
    this.#isLetGo = true;
    this.#native.sessionRelease(this.#handle, limitMs);
    await this.ended;
  }

  /** Names the connection in fusectl. */
  get deviceMinor(): number {
    return this.#entry.deviceMinor;
  }

  /** What a session after this one must know, when it takes the connection over; empty before FUSE_INIT was answered. */
  initResult(): Uint8Array {
    return this.#native.sessionInitResult(this.#handle);
  }

  /** See NativeBinding.sessionResend. */
  resend(): boolean {
    return this.#native.sessionResend(this.#handle);
  }

  /** A few lines: threads, waiting requests, spans in flight. */
  describe(): string {
    return this.#native.sessionDescribe(this.#handle);
  }

  #take(events: Uint32Array): void {
    // Wanted spans are gathered, so that neighbours are fetched together; the order of wanted and unwanted is kept.
    let wanted: number[] = [];
    const touched: number[] = [];
    const flush = () => {
      if (wanted.length > 0) this.#delivery.want(wanted);
      wanted = [];
    };
    for (let at = 0; at < events.length; at += 2) {
      const value = events[at + 1]!;
      switch (events[at]) {
        case SessionEvent.spanWanted:
          wanted.push(value);
          break;
        case SessionEvent.spanUnwanted:
          flush();
          this.#delivery.unwant(value);
          break;
        case SessionEvent.spanTouched:
          touched.push(value);
          break;
        case SessionEvent.initialized:
          this.#onInitialized();
          break;
        case SessionEvent.refused:
          this.#onRefused(value);
          break;
        case SessionEvent.ended:
          this.#end();
          break;
      }
    }
    if (this.#isEnded) return;
    flush();
    // Behind what is wanted: what is read ahead must not be asked for first.
    this.#content.touched(touched);
  }

  #fail(span: number, error: unknown): void {
    this.#failures.report("read", error, { span });
    this.#native.sessionFailed(this.#handle, span, errnoNumberOf(error));
  }

  #end(): void {
    this.#isEnded = true;
    this.#delivery.close();
    this.#entry.end();
    const event = this.#isLetGo ? "mount let go of" : "mount ended";
    this.#logger.info({ mountpoint: this.mountpoint, ...this.operations.snapshot() }, event);
    this.#onEnded();
  }

  #operationCounts(): OperationCounts {
    const counts: Record<string, number> = Object.fromEntries(fuseOperations.map((name) => [name, 0]));
    const values = this.#native.sessionCounters(this.#handle);
    for (let opcode = 0; opcode < SESSION_OPCODES; opcode++)
      if (values[opcode]! > 0) counts[this.#native.operationName(opcode)] = values[opcode]!;
    return counts as OperationCounts;
  }

  #counts(): Record<(typeof sessionCounterNames)[number], number> {
    const values = this.#native.sessionCounters(this.#handle);
    return Object.fromEntries(
      sessionCounterNames.map((name, position) => [name, values[SESSION_OPCODES + position]!]),
    ) as Record<(typeof sessionCounterNames)[number], number>;
  }
}

function tooOld(minor: number): SkimError {
  return new SkimError(
    "MOUNT_FAILED",
    `the kernel speaks FUSE protocol 7.${minor}, and the native engine needs 7.31 (Linux 5.4); mount with --engine fuse-native`,
  );
}
