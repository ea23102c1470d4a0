import type { Command } from "commander";
import { displayText } from "../base/byte-string.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";
import { longRow, targetOf } from "./ls.js";

export function addTreeCommand(program: Command): void {
  const command = program
    .command("tree")
    .description("every path of an archive, or below a directory of it, without the registry")
    .argument("<ARCHIVE|IMAGE>")
    .argument("[PATH]", "", "/")
    .option("-l, --long", "with mode, owner, size and time");
  withCommonOptions(withRegistryHostOptions(command), {
    json: "print a JSON document a line, one for each path",
  });
  command.action(async (name: string, path: string, options: CommonOptions & { long?: boolean }) => {
    const { withArchiveNamed, describeInode, resolveTyped } = await import("./open-named.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, ({ archive, filesystem }) => {
      const write = (line: string) => process.stdout.write(`${line}\n`);
      const start = resolveTyped(filesystem, path);
      // One line a path, written as the walk goes: an image may have a million. With --json, one document a line.
      const pending = [{ ino: start, shown: path.replace(/(.)\/+$/, "$1") }];
      for (let at = pending.pop(); at; at = pending.pop()) {
        const { ino, shown } = at;
        if (context.json) write(JSON.stringify(describeInode(archive, ino, shown, targetOf(archive, ino))));
        else write(options.long ? longRow(archive, ino, shown).join(" ") : shown);
        const below = [...archive.dirents(ino)].map((dirent) => ({
          ino: dirent.inode,
          shown: `${shown === "/" ? "" : shown}/${displayText(dirent.name)}`,
        }));
        for (const child of below.reverse()) pending.push(child);
      }
    });
  });
}
