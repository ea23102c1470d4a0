/** Serving what the server before has served. Readers wait for it, so it comes first, and those first for whom somebody waits. */
import { closeSync } from "node:fs";
import { describeError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { Semaphore } from "../base/semaphore.js";
import { waitingRequests } from "../fuse/kernel-connection.js";
import { findMount, readMountTable } from "../fuse/mount-table.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { DescriptorKeeper, HeldConnection } from "../holder/descriptor-keeper.js";
import type { MountRecord } from "../mount/mount-record.js";
import type { OverlayBinding } from "../overlay/overlay-mount.js";
import type { SharedImages } from "./shared-images.js";

/** Each takes a few milliseconds of the processor, and a host may have a hundred: one more, so that one reads from the disk meanwhile. */
const adoptedAtOnce = 2;

export interface TakeOverParts {
  readonly images: Pick<SharedImages, "adopt">;
  readonly keeper: Pick<DescriptorKeeper, "release">;
  /** Unmounts in a process that serves nothing. */
  readonly native: Pick<OverlayBinding, "umount">;
  readonly logger: Logger;
}

/** Resolves when each is served, or given up: what cannot be served is unmounted. `recorded`: all records of the host. */
export async function takeOver(
  held: readonly HeldConnection[],
  recorded: readonly MountRecord[],
  parts: TakeOverParts,
): Promise<void> {
  const table = readMountTable();
  const inOrder = held
    .map((connection) => ({
      connection,
      users: recorded.filter(({ sharedImage }) => sharedImage === connection.id).map(({ id }) => id),
      waiting: waitingFor(findMount(connection.mountpoint, table)?.deviceMinor),
    }))
    .sort((one, other) => other.waiting - one.waiting || other.users.length - one.users.length);
  const slots = new Semaphore(adoptedAtOnce);
  await Promise.all(inOrder.map(({ connection, users }) => slots.run(() => adopt(connection, users, parts))));
}

function waitingFor(deviceMinor: number | undefined): number {
  return deviceMinor === undefined ? 0 : (waitingRequests(deviceMinor) ?? 0);
}

async function adopt(
  connection: HeldConnection,
  users: readonly string[],
  { images, keeper, native, logger }: TakeOverParts,
): Promise<void> {
  const { id } = connection;
  try {
    const image = await images.adopt(connection, users);
    if (image) return logger.info({ mount: id, users: users.length }, "served again");
    // Its mount was not done when the server before died: nobody has used it.
    closeSync(connection.descriptor);
  } catch (error) {
    // Better an error for its readers than to let them wait for ever.
    logger.error(
      { mount: id, users, error: describeError(error) },
      "cannot be served again: its readers get ENOTCONN",
    );
  }
  await native.umount(connection.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW).catch(() => {});
  await keeper.release(id);
}
