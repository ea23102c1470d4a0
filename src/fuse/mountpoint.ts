/**
 * What must be so before anything is mounted, looked at first because mount(2) and libfuse say so little when it is not.
 *
 * The mount table is asked before the directory itself: stat(2) on a mount point whose server hangs would hang as well.
 */
import { constants } from "node:fs";
import { lstat, open, readdir, readFile, realpath } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { findMount } from "./mount-table.js";

/** The absolute path, without symlinks, of a directory that can be mounted on. Throws MOUNT_FAILED. */
export async function checkMountpoint(given: string): Promise<string> {
  const refuse = (found: string, cause?: unknown) => refusal(given, found, cause);
  const absolute = path.resolve(given);
  try {
    const parent = await realpath(path.dirname(absolute));
    let mountpoint = path.join(parent, path.basename(absolute));
    refuseMounted(mountpoint);
    let stats = await lstat(mountpoint);
    if (stats.isSymbolicLink()) {
      mountpoint = await realpath(mountpoint);
      refuseMounted(mountpoint);
      stats = await lstat(mountpoint);
    }
    if (!stats.isDirectory()) throw refuse("it is not a directory; name an empty directory");
    if ((await readdir(mountpoint)).length > 0)
      throw refuse("the directory is not empty; name an empty one, its content would be hidden");
    return mountpoint;
  } catch (error) {
    if (error instanceof SkimError) throw error;
    if (systemErrorCode(error) === "ENOENT")
      throw refuse(`there is no such directory; make it with mkdir -p ${given}`, error);
    throw refuse(`it cannot be looked at (${systemErrorCode(error) ?? "unknown error"})`, error);
  }
}

/** Throws MOUNT_FAILED where something is mounted at exactly `mountpoint` (absolute, without symlinks); else returns it. */
export function refuseMounted(mountpoint: string): string {
  const mounted = findMount(mountpoint);
  if (mounted)
    throw refusal(
      mountpoint,
      `${mounted.type} (${mounted.source}) is mounted there already; unmount it with umount ${mountpoint}, or name another directory`,
    );
  return mountpoint;
}

function refusal(mountpoint: string, found: string, cause?: unknown): SkimError {
  return new SkimError("MOUNT_FAILED", `cannot mount on ${mountpoint}: ${found}`, { cause });
}

/** Throws ENVIRONMENT where /dev/fuse is missing or closed to this process. */
export async function checkFuseDevice(device = "/dev/fuse"): Promise<void> {
  try {
    await (await open(device, constants.O_RDWR)).close();
  } catch (cause) {
    const code = systemErrorCode(cause);
    const found =
      code === "ENOENT" || code === "ENODEV" || code === "ENXIO"
        ? "there is no such device; load the kernel module with modprobe fuse (in a container: start it with --device /dev/fuse)"
        : `it cannot be opened (${code ?? "unknown error"}); run as root (in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN)`;
    throw new SkimError("ENVIRONMENT", `FUSE needs ${device}: ${found}`, { cause });
  }
}

/** Throws MOUNT_FAILED where /etc/fuse.conf does not let this user open a mount to others. */
export async function checkAllowOther(): Promise<void> {
  if (process.geteuid?.() === 0) return;
  const configuration = await readFile("/etc/fuse.conf", "utf8").catch(() => "");
  if (!/^\s*user_allow_other\s*$/m.test(configuration))
    throw new SkimError(
      "MOUNT_FAILED",
      "only root can open a mount to other users here; run as root, mount without allow_other, or add the line user_allow_other to /etc/fuse.conf",
    );
}
