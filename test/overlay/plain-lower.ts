import { lstatSync, readlinkSync } from "node:fs";
import path from "node:path";
import { afterEach } from "vitest";
import { byteStringFromText, byteStringOf, bytesOf } from "../../src/base/byte-string.js";
import { readMountTable } from "../../src/fuse/mount-table.js";
import { loadNative } from "../../src/native/load.js";
import type { ImageDirectories, ImageEntry } from "../../src/overlay/image-directories.js";

import { makeTempDir, removeTempDir } from "../support/temp-dir.js";

export const native = loadNative();

/** What an image's index would say of the plain directory `lower`. */
export function imageOf(lower: string): ImageDirectories {
  return {
    findEntry(imagePath): ImageEntry | undefined {
      const file = Buffer.concat([Buffer.from(lower), bytesOf(imagePath)]);
      const stat = lstatSync(file, { bigint: true, throwIfNoEntry: false });
      if (!stat) return undefined;
      if (stat.isSymbolicLink())
        return { type: "symlink", target: byteStringOf(readlinkSync(file, "buffer")) };
      if (!stat.isDirectory()) return { type: "other" };
      const names = Buffer.from(native.listXattr(file)).toString("latin1").split("\0").filter(Boolean);
      return {
        type: "directory",
        mode: Number(stat.mode),
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        mtimeSec: Number(stat.mtimeNs / 1_000_000_000n),
        mtimeNsec: Number(stat.mtimeNs % 1_000_000_000n),
        xattrs: names.map((name) => ({
          name: byteStringFromText(name),
          value: byteStringOf(native.getXattr(file, Buffer.from(name))!),
        })),
      };
    },
  };
}

const places: string[] = [];

/** A temp dir whose mounts are taken down after each test, whatever happened. */
export async function makeMountDir(label: string): Promise<string> {
  const dir = await makeTempDir(label);
  places.push(dir);
  return dir;
}

/** Mount points at or below `dir`, the last mounted first. */
export function mountsBelow(dir: string): string[] {
  return readMountTable()
    .map((entry) => entry.mountpoint)
    .filter((mountPoint) => mountPoint === dir || mountPoint.startsWith(`${dir}/`))
    .reverse();
}

afterEach(async () => {
  for (const dir of places.splice(0)) {
    for (const mountPoint of mountsBelow(dir)) await native.umount(mountPoint, 2);
    await removeTempDir(dir);
  }
});

export function modeOf(...parts: string[]): string {
  return (lstatSync(path.join(...parts)).mode & 0o7777).toString(8);
}
