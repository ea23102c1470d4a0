import type { Command } from "commander";
import type { Archive } from "../archive/archive.js";
import { displayText } from "../base/byte-string.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatMode, formatTable, formatTime } from "./format.js";

export function addLsCommand(program: Command): void {
  const command = program
    .command("ls")
    .description("list a directory of an archive, without the registry")
    .argument("<ARCHIVE|IMAGE>")
    .argument("[PATH]", "", "/")
    .option("-l, --long", "with mode, owner, size and time");
  withCommonOptions(withRegistryHostOptions(command));
  command.action(async (name: string, path: string, options: CommonOptions & { long?: boolean }) => {
    const { withArchiveNamed, describeInode, resolveTyped } = await import("./open-named.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, ({ archive, filesystem }) => {
      const ino = resolveTyped(filesystem, path);
      const listed =
        archive.inode(ino).type === "directory"
          ? [...archive.dirents(ino)].map((dirent) => ({
              ino: dirent.inode,
              shown: displayText(dirent.name),
            }))
          : [{ ino, shown: path }];
      context.print(
        listed.map(({ ino, shown }) => describeInode(archive, ino, shown, targetOf(archive, ino))),
        () =>
          options.long
            ? formatTable(
                listed.map(({ ino, shown }) => longRow(archive, ino, shown)),
                [1, 2, 3, 4],
              )
            : listed.map(({ shown }) => shown).join("\n"),
      );
    });
  });
}

export function longRow(archive: Archive, ino: number, shown: string): string[] {
  const inode = archive.inode(ino);
  const target = targetOf(archive, ino);
  const isDevice = inode.type === "character" || inode.type === "block";
  return [
    formatMode(inode.mode),
    String(inode.nlink),
    String(inode.uid),
    String(inode.gid),
    isDevice ? `${inode.deviceMajor}, ${inode.deviceMinor}` : String(inode.size),
    formatTime(inode.mtimeSec),
    target === undefined ? shown : `${shown} -> ${target}`,
  ];
}

export function targetOf(archive: Archive, ino: number): string | undefined {
  return archive.inode(ino).type === "symlink" ? displayText(archive.linkTarget(ino)) : undefined;
}
