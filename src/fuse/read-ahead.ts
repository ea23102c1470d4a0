import { writeFileSync } from "node:fs";
import { systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { MountEntry } from "./mount-table.js";

/**
 * What the kernel reads ahead of a program that reads on and on: as much as one request can carry. Its default for FUSE, 128 KiB, makes eight
 * requests of one.
 */
export const readAheadKiB = 1024;

/**
 * Raises the read-ahead of a mount, after FUSE_INIT (which lowers it to what the kernel itself proposed). Where sysfs cannot be written, for want of
 * root or in a container, the mount works all the same.
 */
export function raiseReadAhead({ deviceMajor, deviceMinor }: MountEntry, logger: Logger): void {
  const file = `/sys/class/bdi/${deviceMajor}:${deviceMinor}/read_ahead_kb`;
  try {
    writeFileSync(file, String(readAheadKiB));
  } catch (error) {
    logger.debug({ file, error: systemErrorCode(error) }, "read-ahead stays at the kernel's default");
  }
}
