/**
 * The kernel's side of a FUSE mount, as fusectl shows it (Documentation/filesystems/fuse/fuse.rst): one directory a connection, named by
 * the minor number of the mount's device. It is there on every machine with systemd, and may be missing elsewhere.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { systemErrorCode } from "../base/errors.js";
import { readMountTable } from "./mount-table.js";

const fusectl = "/sys/fs/fuse/connections";

/** Requests that the kernel waits for; 0 for a connection that is gone or aborted; undefined where fusectl is not mounted. */
export function waitingRequests(deviceMinor: number): number | undefined {
  try {
    return Number.parseInt(readFileSync(`${fusectl}/${deviceMinor}/waiting`, "latin1"), 10);
  } catch (error) {
    return systemErrorCode(error) === "ENOENT" && fusectlMounted() ? 0 : undefined;
  }
}

/** Ends a connection: whoever waits for it gets ECONNABORTED. False where that cannot be done. */
export function abortConnection(deviceMinor: number): boolean {
  if (!fusectlMounted()) return false;
  try {
    writeFileSync(`${fusectl}/${deviceMinor}/abort`, "1");
    return true;
  } catch {
    return false;
  }
}

function fusectlMounted(): boolean {
  return readMountTable().some((entry) => entry.type === "fusectl" && entry.mountpoint === fusectl);
}
