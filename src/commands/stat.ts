import type { Command } from "commander";
import { displayText } from "../base/byte-string.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatMode, formatTime } from "./format.js";
import { targetOf } from "./ls.js";

export function addStatCommand(program: Command): void {
  const command = program
    .command("stat")
    .description(
      "all that an archive knows of a path: attributes, xattrs, and where its bytes lie in the layers",
    )
    .argument("<ARCHIVE|IMAGE>")
    .argument("[PATH]", "", "/")
    .option("-L, --dereference", "follow a symlink at the end of the path");
  withCommonOptions(withRegistryHostOptions(command));
  command.action(async (name: string, path: string, options: CommonOptions & { dereference?: boolean }) => {
    const { withArchiveNamed, describeInode, resolveTyped } = await import("./open-named.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, ({ archive, filesystem }) => {
      const ino = resolveTyped(filesystem, path, { followLast: options.dereference ?? false });
      const inode = archive.inode(ino);
      const target = targetOf(archive, ino);
      const xattrs = archive
        .xattrs(ino)
        .map((xattr) => ({ name: displayText(xattr.name), value: displayText(xattr.value) }));
      const extents = archive
        .extents(ino)
        .map((extent) => ({ ...extent, layer: archive.layers[extent.layer]!.digest }));
      context.print({ ...describeInode(archive, ino, path, target), xattrs, extents }, () =>
        [
          `path    ${path}${target === undefined ? "" : ` -> ${target}`}`,
          `inode   ${ino} (${inode.type}, nlink ${inode.nlink})`,
          `mode    ${(inode.mode & 0o7777).toString(8).padStart(4, "0")} ${formatMode(inode.mode)}, uid ${inode.uid}, gid ${inode.gid}`,
          `size    ${inode.size}`,
          `mtime   ${formatTime(inode.mtimeSec)}.${String(inode.mtimeNsec).padStart(9, "0")} UTC`,
          ...xattrs.map((xattr) => `xattr   ${xattr.name}=${xattr.value}`),
          ...extents.map(
            (extent) =>
              `bytes   ${extent.fileOffset}+${extent.length} at ${extent.layerOffset} of ${extent.layer.slice(0, 19)}`,
          ),
        ].join("\n"),
      );
    });
  });
}
