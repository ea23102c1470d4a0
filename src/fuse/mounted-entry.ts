/**
 * One mount of this process in the kernel's table: finding it again, and taking it away without touching it or anybody else's.
 *
 * A mount is named by its id and the number of its device together. The kernel gives either again at once, so a session tells when its mount has
 * ended, and what lies at the same place afterwards is somebody else's until it has proved to be dead.
 */
import { statfs } from "node:fs/promises";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import { fusermountUnmount } from "./fusermount.js";
import { findMountHolders } from "./mount-holders.js";
import { findMount, type MountEntry, readMountTable } from "./mount-table.js";
import { MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW } from "./umount-flags.js";

/** Those of this process whose sessions have not ended. */
const served = new Set<MountedEntry>();

export class MountedEntry {
  readonly mountpoint: string;
  readonly deviceMinor: number;
  readonly #id: number;
  readonly #native: Pick<NativeBinding, "umount">;
  /** The last unmount that was asked for; never rejects. */
  #unmounting: Promise<unknown> = Promise.resolve();

  constructor(mount: MountEntry, native: Pick<NativeBinding, "umount">) {
    this.mountpoint = mount.mountpoint;
    this.deviceMinor = mount.deviceMinor;
    this.#id = mount.id;
    this.#native = native;
    served.add(this);
  }

  /** The session has ended: whatever is mounted there from now on is not its own, or dead. */
  end(): void {
    served.delete(this);
  }

  /** As it is in the table now, wherever it has been moved to; undefined where it is not there any more. */
  find(table = readMountTable()): MountEntry | undefined {
    return table.find((entry) => entry.id === this.#id && entry.deviceMinor === this.deviceMinor);
  }

  /**
   * An aborted connection ends the session and leaves a mount in the table. One that looks the same may be a new one. A dead one answers
   * statfs(2) with ENOTCONN, without asking anybody.
   */
  async removeDead(force: boolean): Promise<void> {
    const entry = this.find();
    const isServedHere = [...served].some((other) => other.mountpoint === this.mountpoint);
    if (!entry || isServedHere) return;
    const failure = await statfs(entry.mountpoint).then(() => undefined, systemErrorCode);
    if (failure === "ENOTCONN" || failure === "ECONNABORTED") await this.unmount(force);
  }

  /**
   * Takes the mount out of the table. False where it was not in it any more. Throws IN_USE, naming who uses it or what lies on it, and
   * MOUNT_FAILED. One at a time: two umount2 at once hold the mount while they look it up, and tell each other EBUSY.
   */
  async unmount(force: boolean): Promise<boolean> {
    const unmounted = this.#unmounting.then(() => this.#unmount(force));
    this.#unmounting = unmounted.catch(() => {});
    return await unmounted;
  }

  async #unmount(force: boolean, mayTryAgain = true): Promise<boolean> {
    const table = readMountTable();
    const mount = this.find(table);
    if (!mount) return false;
    const { mountpoint } = mount;
    const top = findMount(mountpoint, table);
    if (top && top.id !== mount.id)
      throw new SkimError(
        "IN_USE",
        `cannot unmount ${mountpoint}: ${top.type} (${top.source}) is mounted on top of it; unmount that first`,
      );
    try {
      await this.#native.umount(mountpoint, UMOUNT_NOFOLLOW | (force ? MNT_FORCE | MNT_DETACH : 0));
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
      // Somebody who looked at it for a moment (df, another umount) and is gone since.
      if (code === "EBUSY" && holders.length === 0 && mayTryAgain) return await this.#unmount(force, false);
      throw new SkimError(
        "IN_USE",
        `cannot unmount ${mountpoint}: it is in use${holders.length ? `: ${holders.join(", ")}` : ""}; end what uses it and unmount again`,
        { cause },
      );
    }
  }
}

/** From a successful umount2 to the end: only other mount namespaces, or files open in a mount that was detached before, take longer. */
export const endWaitMs = 3_000;

/** Waits for `ended` after an unmount. Throws IN_USE where the filesystem lives on unmounted. */
export async function waitForEnd(ended: Promise<void>, mountpoint: string): Promise<void> {
  let timeout: NodeJS.Timeout | undefined;
  const late = new Promise<true>((resolve) => {
    timeout = setTimeout(resolve, endWaitMs, true);
  });
  const isLate = await Promise.race([late, ended]);
  clearTimeout(timeout);
  if (isLate)
    throw new SkimError(
      "IN_USE",
      `${mountpoint} is unmounted here, but its filesystem is still in use: by files that were open when it was detached, or by another mount namespace; end their holders`,
    );
}
