/**
 * A tree on an ext4 in a file, mounted through a loop device. Mounted anew it is as cold as a new FUSE mount (no inode, no name, no page in the
 * kernel's caches), while the file below it is as warm as skim's cache files are.
 */
import { mkdir, rmdir, truncate, writeFile } from "node:fs/promises";
import { run } from "./processes.js";

export interface Ext4Size {
  readonly bytes: number;
  readonly inodes: number;
}

export class Ext4Image {
  readonly #file: string;

  private constructor(file: string) {
    this.#file = file;
  }

  /** Makes the filesystem in `file` and lets `populate` write to it. */
  static async make(
    file: string,
    size: Ext4Size,
    populate: (directory: string) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<Ext4Image> {
    await writeFile(file, "");
    await truncate(file, size.bytes);
    const format = ["-q", "-F", "-N", String(size.inodes), "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    await run("mkfs.ext4", [...format, file], { signal });
    const directory = `${file}.populate`;
    await mkdir(directory);
    await run("mount", ["-o", "loop", file, directory], { signal });
    try {
      await populate(directory);
    } finally {
      await run("umount", [directory]);
      await rmdir(directory);
    }
    return new Ext4Image(file);
  }

  /** The loop device goes with the mount: mount(8) makes it so. */
  async mount(directory: string): Promise<void> {
    await run("mount", ["-o", "loop,ro", this.#file, directory]);
  }

  async umount(directory: string): Promise<void> {
    await run("umount", [directory]);
  }
}
