/**
 * One mount of the fuse-native engine, from its mount to the end of libfuse's threads.
 *
 * fuse-native tells nobody when a session ends. What can be seen from here is libfuse's descriptor of /dev/fuse: it is closed when the kernel has
 * dropped the connection and all worker threads have been joined, and only then. So the link in /proc/self/fd is looked at once a
 * second, and every few milliseconds while somebody waits in `unmount`. The mount table would say less: a mount that is gone from it (`umount
 * -l`, another mount namespace) may well be in use. The mount itself is never touched.
 *
 * Threads cannot be joined while they wait for reads that wait for a registry. Once the kernel has given these up, they are aborted.
 */
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import type { NativeBinding } from "../native/binding.js";
import { isFuseDescriptor } from "./fuse-descriptors.js";
import type { FuseNativeBinding } from "./fuse-native-binding.js";
import type { FuseNativeOperations } from "./fuse-native-operations.js";
import type { FuseOperation, FuseSession } from "./fuse-session.js";
import { abortConnection, waitingRequests } from "./kernel-connection.js";
import type { MountEntry } from "./mount-table.js";
import { MountedEntry, waitForEnd } from "./mounted-entry.js";

const watchMs = 1_000;
const unmountWatchMs = 5;

/** Sessions of this process that have not ended, by the number of libfuse's descriptor. */
const sessionsByDescriptor = new Map<number, FuseNativeSession>();

export interface FuseNativeSessionParts {
  readonly fuseNative: FuseNativeBinding;
  readonly native: Pick<NativeBinding, "umount">;
  /** The C half's memory of this mount. */
  readonly state: Buffer;
  readonly mount: MountEntry;
  /** libfuse's descriptor of /dev/fuse. */
  readonly descriptor: number;
  readonly operations: FuseNativeOperations;
  readonly counters: Counters<FuseOperation>;
  readonly logger: Logger;
}

export class FuseNativeSession implements FuseSession {
  readonly mountpoint: string;
  readonly operations: Counters<FuseOperation>;
  readonly ended: Promise<void>;
  readonly entry: MountedEntry;
  readonly #parts: FuseNativeSessionParts;
  #watch: NodeJS.Timeout | undefined;
  #resolveEnded: () => void = () => {};
  #isEnded = false;

  constructor(parts: FuseNativeSessionParts) {
    this.#parts = parts;
    this.mountpoint = parts.mount.mountpoint;
    this.operations = parts.counters;
    this.entry = new MountedEntry(parts.mount, parts.native);
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    // A number that is used again belonged to a session that has ended since it was looked at.
    const previous = sessionsByDescriptor.get(parts.descriptor);
    if (previous) previous.#end();
    sessionsByDescriptor.set(parts.descriptor, this);
    this.#watchEvery(watchMs);
  }

  async unmount({ force = false }: { force?: boolean } = {}): Promise<void> {
    const { entry } = this;
    if (this.#look()) return await entry.removeDead(force);
    const wasMounted = await entry.unmount(force);
    if (this.#look()) return;
    if (force && !wasMounted) abortConnection(entry.deviceMinor);
    // A mount without users, or one that was aborted: nobody waits for its reads, unless fusectl knows better.
    const isUnused = wasMounted || force;
    if (isUnused && (this.#waiting() ?? 0) === 0) this.#parts.operations.abortReads();
    this.#watchEvery(unmountWatchMs);
    try {
      await waitForEnd(this.ended, this.mountpoint);
    } finally {
      this.#watchEvery(watchMs);
    }
  }

  /** Nothing is served past the content. */
  served(): Record<string, never> {
    return {};
  }

  /** True at and after the end. */
  #look(): boolean {
    if (!this.#isEnded && !isFuseDescriptor(this.#parts.descriptor)) this.#end();
    else if (this.#parts.operations.readsInFlight > 0 && this.#waiting() === 0)
      this.#parts.operations.abortReads();
    return this.#isEnded;
  }

  #end(): void {
    const { operations, fuseNative, state, logger, descriptor } = this.#parts;
    this.#isEnded = true;
    clearInterval(this.#watch);
    sessionsByDescriptor.delete(descriptor);
    this.entry.end();
    operations.close();
    fuseNative.fuse_native_unmount(this.mountpoint, state);
    logger.info({ mountpoint: this.mountpoint, ...this.operations.snapshot() }, "mount ended");
    this.#resolveEnded();
  }

  #watchEvery(ms: number): void {
    if (this.#isEnded) return;
    clearInterval(this.#watch);
    this.#watch = setInterval(() => this.#look(), ms);
  }

  #waiting(): number | undefined {
    return waitingRequests(this.entry.deviceMinor);
  }
}
