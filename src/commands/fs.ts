import type { Command } from "commander";
import { bytesOf, displayText } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import type { ContainerEntry } from "../copy/container-entry.js";
import { type CommonOptions, createContext, withCommonOptions } from "./command-context.js";
import { requireContainerPath } from "./container-path.js";
import { formatMode, formatTable, formatTime } from "./format.js";

/** Files of a container, as its processes see them. */
export function addFsCommand(program: Command): void {
  const group = program.command("fs").description("files of a container, as exec sees them");

  const ls = group
    .command("ls")
    .description("list a directory")
    .argument("<ID:PATH>")
    .option("-l, --long", "with mode, owner, size and time");
  withCommonOptions(ls).action(async (typed: string, options: CommonOptions & { long?: boolean }) => {
    const { listFiles } = await import("../mount/container-files.js");
    const context = createContext(options);
    const { id, path } = requireContainerPath(typed);
    const { settings, signal } = context;
    const entries = await listFiles({ id, path: bytesOf(path), settings, signal });
    context.print(entries.map(shownEntry), () =>
      options.long
        ? formatTable(entries.map(longRow), [1, 2, 3])
        : entries.map((entry) => displayText(entry.path)).join("\n"),
    );
  });

  const stat = group
    .command("stat")
    .description("what is at a path")
    .argument("<ID:PATH>")
    .option("-L, --dereference", "follow a symlink at the end of the path");
  withCommonOptions(stat).action(
    async (typed: string, options: CommonOptions & { dereference?: boolean }) => {
      const { statFile } = await import("../mount/container-files.js");
      const context = createContext(options);
      const { id, path } = requireContainerPath(typed);
      const { settings, signal } = context;
      const follow = options.dereference ?? false;
      const entry = await statFile({ id, path: bytesOf(path), follow, settings, signal });
      if (!entry) throw new SkimError("NOT_FOUND", `${displayText(path)} is not in container ${id}`);
      const shown = { ...entry, path };
      context.print(shownEntry(shown), () => formatTable([longRow(shown)], [1, 2, 3]));
    },
  );

  const rm = group
    .command("rm")
    .description("remove what is at a path, a symlink itself")
    .argument("<ID:PATH>")
    .option("-r, --recursive", "with all below it, but for other mounts");
  withCommonOptions(rm, { json: false }).action(
    async (typed: string, options: CommonOptions & { recursive?: boolean }) => {
      const { removeFile } = await import("../mount/container-files.js");
      const { settings, signal } = createContext(options);
      const { id, path } = requireContainerPath(typed);
      const recursive = options.recursive ?? false;
      await removeFile({ id, path: bytesOf(path), recursive, settings, signal });
    },
  );
}

function shownEntry(entry: ContainerEntry) {
  return {
    ...entry,
    path: displayText(entry.path),
    mode: entry.mode.toString(8).padStart(4, "0"),
    ...(entry.kind === "symlink" ? { target: displayText(entry.target) } : { target: undefined }),
  };
}

/** Type bits of st_mode, for the letter that ls shows. */
const typeBits = { file: 0o100000, directory: 0o040000, symlink: 0o120000, other: 0o140000 };

function longRow(entry: ContainerEntry): string[] {
  const shown = displayText(entry.path);
  return [
    formatMode(typeBits[entry.kind] | entry.mode),
    String(entry.uid),
    String(entry.gid),
    String(entry.size),
    formatTime(entry.mtimeSec),
    entry.kind === "symlink" ? `${shown} -> ${displayText(entry.target)}` : shown,
  ];
}
