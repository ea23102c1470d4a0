/**
 * Says why an overlay could not be mounted. The kernel has one errno for a dozen causes ("wrong fs type, bad option, ...") and puts
 * the cause into its log, without a path. So the causes are looked for here one by one; where none is found, the log is quoted.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import { lstat, stat } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { type MountEntry, readMountTable } from "../fuse/mount-table.js";
import { isInside } from "./overlay-table.js";

/** CONSOLE_EXT_LOG_MAX of the kernel: no record is longer. */
const kernelRecordBytesMax = 8192;
/** The log buffer holds 128 KiB to some MiB; what is behind this bound is not worth the time. */
const kernelRecordsMax = 100_000;

export interface FailedOverlay {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
}

/** The error to throw for `cause`, which a step of mounting threw: itself, MOUNT_FAILED, ENVIRONMENT, LOCAL_IO or CANCELLED. */
export async function explainMountFailure(
  overlay: FailedOverlay | undefined,
  cause: unknown,
  signal?: AbortSignal,
): Promise<SkimError> {
  if (cause instanceof SkimError) return cause;
  if (signal?.aborted) return new SkimError("CANCELLED", "mounting the overlay was cancelled", { cause });
  const code = systemErrorCode(cause) ?? "unknown error";
  if (code === "ENODEV") {
    return new SkimError("ENVIRONMENT", "this kernel has no overlayfs; load it with: modprobe overlay", {
      cause,
    });
  }
  const where = overlay ? `overlay at ${overlay.merged}` : "overlay";
  if (code === "EPERM") {
    const message = `${where} needs CAP_SYS_ADMIN; run skim as root, and in a container with --privileged`;
    return new SkimError("ENVIRONMENT", message, { cause });
  }
  const reason = overlay && (await findReason(overlay, code));
  const fromMount =
    typeof cause === "object" && cause !== null && "syscall" in cause && cause.syscall === "mount";
  if (!reason && !fromMount) return new SkimError("LOCAL_IO", `${where} cannot be prepared`, { cause });
  return new SkimError("MOUNT_FAILED", `${where} cannot be mounted (${code}): ${reason ?? kernelReason()}`, {
    cause,
  });
}

/** Throws MOUNT_FAILED for paths that lie in each other, which the kernel takes in part and which then do harm. */
export function refuseOverlap({ lower, upper, work, merged }: FailedOverlay): void {
  const pairs: readonly [string, string, string, string][] = [
    ["upper dir", upper, "lower", lower],
    ["lower", lower, "upper dir", upper],
    ["work dir", work, "lower", lower],
    ["merged dir", merged, "upper dir", upper],
    ["merged dir", merged, "lower", lower],
    ["merged dir", merged, "work dir", work],
    ["lower", lower, "merged dir", merged],
    ["upper dir", upper, "merged dir", merged],
  ];
  for (const [inner, innerPath, outer, outerPath] of pairs) {
    if (!isInside(innerPath, outerPath)) continue;
    throw new SkimError(
      "MOUNT_FAILED",
      `overlay at ${merged} cannot be mounted: its ${inner} ${innerPath} lies in its ${outer} ${outerPath}; use directories beside each other`,
    );
  }
}

async function findReason(overlay: FailedOverlay, code: string): Promise<string | undefined> {
  const { lower, upper, work, merged } = overlay;
  if (code === "ENOENT" || code === "ENOTDIR") {
    for (const [name, directory] of Object.entries({ lower, upper, work, merged })) {
      const found = await stat(directory).catch(() => undefined);
      if (!found?.isDirectory()) return `${name} ${directory} is ${found ? "not a directory" : "not there"}`;
    }
  }
  const upperMount = mountOf(upper);
  if (upperMount && code === "EROFS") return `upper dir ${upper} is on a read-only filesystem`;
  if (upperMount && cannotHoldUpper(upperMount.type)) {
    return `upper dir ${upper} is on ${upperMount.type}, which cannot hold one; use a directory of a local disk (ext4, xfs, btrfs), or a tmpfs upper`;
  }
  if (upperMount?.id !== mountOf(work)?.id) {
    return `upper dir ${upper} and work dir ${work} are not on the same mount; use an upper dir that is not a mount point itself`;
  }
  if (await lstat(path.join(work, "work/incompat/volatile")).catch(() => undefined)) {
    return `upper dir ${upper} was last mounted as volatile and never unmounted, so its content may be incomplete; remove ${work} to use it nevertheless`;
  }
  if (code === "EOPNOTSUPP" || code === "ENOTSUP") {
    return `${upperMount?.type ?? "the filesystem"} of upper dir ${upper} has no trusted xattrs, which overlayfs needs; use a directory of a local disk (ext4, xfs, btrfs), or a tmpfs upper`;
  }
  if (code === "ESTALE") return `upper dir ${upper} was used with another lower; use a new one`;
  if (code === "EBUSY") return `${merged} is in use as a mount point or working directory of the system`;
  return undefined;
}

/** The mount that `absolutePath` lies on: the longest mount point above it, the last where several are stacked. */
function mountOf(absolutePath: string): MountEntry | undefined {
  let found: MountEntry | undefined;
  for (const entry of readMountTable()) {
    if (!isInside(absolutePath, entry.mountpoint)) continue;
    if (!found || entry.mountpoint.length >= found.mountpoint.length) found = entry;
  }
  return found;
}

/** Network filesystems, FUSE and stacked ones have no RENAME_WHITEOUT or dentries that change by themselves. */
function cannotHoldUpper(type: string): boolean {
  return /^(overlay|fuse|fuseblk|fuse\..*|nfs4?|cifs|smb3|9p|ceph|vfat|msdos|exfat|ntfs3?|ecryptfs|squashfs|erofs|iso9660)$/.test(
    type,
  );
}

function kernelReason(): string {
  const line = lastOverlayLine();
  return line
    ? `the kernel refused it; the last line of overlayfs in its log is: ${line}`
    : "the kernel refused it; see its log: dmesg | grep overlay";
}

/** The newest line of overlayfs in /dev/kmsg (Documentation/ABI/testing/dev-kmsg); undefined where it may not be read. */
function lastOverlayLine(): string | undefined {
  let fd: number;
  try {
    fd = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  const record = Buffer.alloc(kernelRecordBytesMax);
  let found: string | undefined;
  try {
    for (let count = 0; count < kernelRecordsMax; count++) {
      let length = 0;
      try {
        length = readSync(fd, record);
      } catch (error) {
        // The record was overwritten while we came to it: the next read goes on with the oldest one there is.
        if (systemErrorCode(error) === "EPIPE") continue;
        break;
      }
      // priority,sequence,time,flags;text
      const text = record.toString("utf8", 0, length).split("\n", 1)[0]!;
      const message = text.slice(text.indexOf(";") + 1);
      if (/^overlay(fs)?: /.test(message)) found = message;
    }
  } finally {
    closeSync(fd);
  }
  return found;
}
