/** An archive as the overlay room asks for it when it seeds an upper: one entry at a path, no symlink followed. */
import type { Archive } from "../archive/archive.js";
import type { ByteString } from "../base/byte-string.js";
import type { ImageDirectories, ImageEntry } from "../overlay/image-directories.js";

const rootInode = 1;

export function imageDirectories(archive: Archive): ImageDirectories {
  return {
    findEntry(path: ByteString): ImageEntry | undefined {
      let ino = rootInode;
      for (const name of path.split("/") as ByteString[]) {
        if (name) ino = archive.lookup(ino, name);
        if (ino === 0) return undefined;
      }
      const inode = archive.inode(ino);
      if (inode.type === "symlink") return { type: "symlink", target: archive.linkTarget(ino) };
      if (inode.type !== "directory") return { type: "other" };
      const { mode, uid, gid, mtimeSec, mtimeNsec } = inode;
      return {
        type: "directory",
        mode: mode & 0o7777,
        uid,
        gid,
        mtimeSec,
        mtimeNsec,
        xattrs: archive.xattrs(ino),
      };
    },
  };
}
