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
import { statfs } from "node:fs/promises";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Counters } from "../base/metrics.js";
import type { NativeBinding } from "../native/binding.js";
import { isFuseDescriptor } from "./fuse-descriptors.js";
import type { FuseNativeBinding } from "./fuse-native-binding.js";
import type { FuseNativeOperations } from "./fuse-native-operations.js";
import type { FuseOperation, FuseSession } from "./fuse-session.js";
import { fusermountUnmount } from "./fusermount.js";
import { abortConnection, waitingRequests } from "./kernel-connection.js";
import { findMountHolders } from "./mount-holders.js";
import { findMount, type MountEntry, readMountTable } from "./mount-table.js";
import { MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW } from "./umount-flags.js";

const watchMs = 1_000;
const unmountWatchMs = 5;
/** From a successful umount2 to the end: only other mount namespaces, or files open in a mount that was detached before, take longer. */
const endWaitMs = 3_000;

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
  readonly #parts: FuseNativeSessionParts;
  #watch: NodeJS.Timeout | undefined;
  #resolveEnded: () => void = () => {};
  #isEnded = false;

  constructor(parts: FuseNativeSessionParts) {
    this.#parts = parts;
    this.mountpoint = parts.mount.mountpoint;
    this.operations = parts.counters;
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
    if (this.#look()) return await this.#removeDeadMount(force);
    const wasMounted = await this.#unmountEntry(force);
    if (this.#look()) return;
    if (force && !wasMounted) abortConnection(this.#parts.mount.deviceMinor);
    // A mount without users, or one that was aborted: nobody waits for its reads, unless fusectl knows better.
    const isUnused = wasMounted || force;
    if (isUnused && (this.#waiting() ?? 0) === 0) this.#parts.operations.abortReads();
    this.#watchEvery(unmountWatchMs);
    let timeout: NodeJS.Timeout | undefined;
    const late = new Promise<true>((resolve) => {
      timeout = setTimeout(resolve, endWaitMs, true);
    });
    const isLate = await Promise.race([late, this.ended]);
    clearTimeout(timeout);
    if (!isLate) return;
    this.#watchEvery(watchMs);
    throw new SkimError(
      "IN_USE",
      `${this.mountpoint} is unmounted here, but its filesystem is still in use: by files that were open when it was detached, or by another mount namespace; end their holders`,
    );
  }

  /**
   * An aborted connection ends the session and leaves a mount in the table. One that looks the same may be a new one: the kernel gives
   * numbers of mounts and devices again at once. A dead one answers statfs(2) with ENOTCONN, without asking anybody.
   */
  async #removeDeadMount(force: boolean): Promise<void> {
    const entry = this.#tableEntry();
    const isServedHere = [...sessionsByDescriptor.values()].some(
      (other) => other.mountpoint === this.mountpoint,
    );
    if (!entry || isServedHere) return;
    const failure = await statfs(entry.mountpoint).then(() => undefined, systemErrorCode);
    if (failure === "ENOTCONN" || failure === "ECONNABORTED") await this.#unmountEntry(force);
  }

  #tableEntry(table = readMountTable()): MountEntry | undefined {
    const { id, deviceMinor } = this.#parts.mount;
    return table.find((entry) => entry.id === id && entry.deviceMinor === deviceMinor);
  }

  /** Takes the mount out of the table. False where it was not in it any more. */
  async #unmountEntry(force: boolean): Promise<boolean> {
    const { native } = this.#parts;
    const table = readMountTable();
    const mount = this.#tableEntry(table);
    if (!mount) return false;
    const { mountpoint } = mount;
    const top = findMount(mountpoint, table);
    if (top && top.id !== mount.id)
      throw new SkimError(
        "IN_USE",
        `cannot unmount ${mountpoint}: ${top.type} (${top.source}) is mounted on top of it; unmount that first`,
      );
    try {
      await native.umount(mountpoint, UMOUNT_NOFOLLOW | (force ? MNT_FORCE | MNT_DETACH : 0));
      return true;
    } catch (cause) {
      const code = systemErrorCode(cause);
      // Somebody else was faster.
      if (code === "EINVAL" || code === "ENOENT") return false;
      if (code === "EPERM" && process.geteuid?.() !== 0 && (await fusermountUnmount(mountpoint, force)))
        return true;
      if (code !== "EBUSY" && code !== "EPERM")
        throw new SkimError("MOUNT_FAILED", `cannot unmount ${mountpoint}: umount2 says ${code}`, {
          cause,
        });
      const holders = findMountHolders(mount);
      throw new SkimError(
        "IN_USE",
        `cannot unmount ${mountpoint}: it is in use${holders.length ? `: ${holders.join(", ")}` : ""}; end what uses it and unmount again`,
        { cause },
      );
    }
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
    return waitingRequests(this.#parts.mount.deviceMinor);
  }
}
