/**
 * Which descriptors of this process are /dev/fuse. Links in /proc/self/fd are read, nothing is opened or stat'ed: a descriptor of this
 * process could lead into a mount that does not answer.
 */
import { readdirSync, readlinkSync } from "node:fs";

export function fuseDescriptors(): number[] {
  return readdirSync("/proc/self/fd").map(Number).filter(isFuseDescriptor);
}

export function isFuseDescriptor(descriptor: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`).endsWith("/fuse");
  } catch {
    return false;
  }
}
