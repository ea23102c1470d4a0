import { stat } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { type ByteString, byteStringFromText, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import type { CopyResult, FileToCopy } from "../copy/container-entry.js";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  wholeNumber,
  withCommonOptions,
} from "./command-context.js";
import { bytesTyped, type ContainerPath, parseContainerPath } from "./container-path.js";
import { formatBytes } from "./format.js";

interface CpCommandOptions extends CommonOptions {
  timeout: number;
  stallTimeout: number;
  owner?: string;
  entriesMax?: number;
  bytesMax?: number;
  depthMax?: number;
}

/** docker cp makes it a tar stream, others a file's content. */
const streams =
  "\"-\" is no path: for a file of that name write ./-, for a stream skim exec ID -- sh -c 'cat > FILE', or cat FILE";

export function addCpCommand(program: Command): void {
  const command = program
    .command("cp")
    .description("copy files into a container or out of it; what exec sees is what is read and written")
    .usage("[options] <SRC...> <DST>")
    .argument("<PATHS...>", "from, one or more, and to: ID:PATH in a container, or a path of this host")
    .addHelpText(
      "after",
      "\nWhere DST is a directory or ends in /, what is copied goes into it. SRC/. is what is in a directory.\nExit code 1: some files were not copied, each told in a line; the others are in their place.",
    )
    .option("--owner <uid:gid>", "of what is copied in (default: the container's user)")
    .option(
      "--timeout <seconds>",
      "give up after this time, and leave nothing unfinished; 0: never",
      wholeNumber,
      0,
    )
    .option("--stall-timeout <seconds>", "the same when nothing has moved for this time", wholeNumber, 120)
    .option("--entries-max <number>", "refuse to copy out more files and directories", wholeNumber)
    .option("--bytes-max <bytes>", "refuse to copy out more", wholeNumber)
    .option("--depth-max <number>", "refuse to copy out directories deeper in each other", wholeNumber);
  withCommonOptions(command);
  command.action(async (paths: string[], options: CpCommandOptions) => {
    const [destination, ...sources] = [paths.at(-1)!, ...paths.slice(0, -1)];
    if (sources.length === 0) throw new SkimError("USAGE", "two paths are needed: from, and to");
    if (paths.includes("-")) throw new SkimError("USAGE", streams);
    const context = createContext(options);
    const to = parseContainerPath(destination);
    const from = parseContainerPath(sources[0]!);
    if (to && !sources.some(parseContainerPath)) {
      process.exitCode = await copyIntoContainer(sources, to, options, context);
    } else if (from && !to && sources.length === 1) {
      await copyOutOfContainer(from, destination, options, context);
    } else {
      throw new SkimError(
        "USAGE",
        "one side is in a container, the other on this host: skim cp SRC... ID:PATH, or skim cp ID:PATH DST",
      );
    }
  });
}

function requestOf(id: string, options: CpCommandOptions, context: CommandContext) {
  const times = { timeoutMs: options.timeout * 1000, stallTimeoutMs: options.stallTimeout * 1000 };
  return { id, ...times, settings: context.settings, signal: context.signal };
}

/** Returns the exit code: 1 where some of the files could not be copied. */
async function copyIntoContainer(
  sources: readonly string[],
  to: ContainerPath,
  options: CpCommandOptions,
  context: CommandContext,
): Promise<number> {
  const { copyIn, statFile } = await import("../mount/container-files.js");
  const request = requestOf(to.id, options, context);
  const there = await statFile({ ...request, path: bytesOf(to.path), follow: true });
  const isInto = there?.kind === "directory" || to.path.endsWith("/") || sources.length > 1;
  if (isInto && there && there.kind !== "directory")
    throw new SkimError("USAGE", `${displayText(to.path)} is there, and no directory`);
  const owner = options.owner === undefined ? {} : parseOwner(options.owner);
  const results = await copyIn({
    ...request,
    files: filesOf(sources, to.path, isInto, owner),
    onResult: ({ error }) => {
      if (error !== undefined && !context.json) process.stderr.write(`skim: not copied: ${error}\n`);
    },
  });
  const failed = results.filter(({ error }) => error !== undefined);
  context.print(results.map(shownResult), () => "");
  return failed.length > 0 ? 1 : 0;
}

async function* filesOf(
  sources: readonly string[],
  destination: ByteString,
  isInto: boolean,
  owner: { uid?: number; gid?: number },
): AsyncGenerator<FileToCopy> {
  const { below, hostTree } = await import("../copy/host-tree.js");
  for (const typed of sources) {
    const source = bytesTyped(typed);
    const to = bytesOf(destination);
    const name = path.posix.basename(source) as ByteString;
    const target = isInto && !meansContent(source) ? below(to, bytesOf(name)) : to;
    for await (const file of hostTree(bytesOf(source), target)) yield { ...file, ...owner };
  }
}

/** `DIR/.` is what is in it; so is `..`, which would lead out of the destination, and `/`, which has no name. */
function meansContent(path: ByteString): boolean {
  return /(^|\/)\.{1,2}\/*$/.test(path) || /^\/*$/.test(path);
}

function parseOwner(text: string): { uid: number; gid: number } {
  const parts = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  const [uid, gid] = [Number(parts?.[1]), Number(parts?.[2])];
  if (parts && uid < 0xffff_ffff && gid < 0xffff_ffff) return { uid, gid };
  throw new SkimError("USAGE", `--owner ${JSON.stringify(text)}: two numbers are needed, UID:GID`);
}

async function copyOutOfContainer(
  from: ContainerPath,
  destination: string,
  options: CpCommandOptions,
  context: CommandContext,
): Promise<void> {
  const { copyOut } = await import("../mount/container-files.js");
  const typed = bytesTyped(destination);
  const isDirectory = await stat(bytesOf(typed)).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const name =
    path.posix.basename(path.posix.resolve("/", from.path)) || displayText(byteStringFromText(from.id));
  const isInto = (isDirectory || typed.endsWith("/")) && !/(^|\/)\.\/*$/.test(from.path);
  const to = isInto ? `${typed}/${name}` : typed;
  const taken = await copyOut({
    ...requestOf(from.id, options, context),
    path: bytesOf(from.path),
    to: bytesOf(to as ByteString),
    limits: {
      ...(options.entriesMax === undefined ? {} : { entriesMax: options.entriesMax }),
      ...(options.bytesMax === undefined ? {} : { bytesMax: options.bytesMax }),
      ...(options.depthMax === undefined ? {} : { depthMax: options.depthMax }),
    },
  });
  if (!context.json)
    for (const { error } of taken.skipped) process.stderr.write(`skim: not copied: ${error}\n`);
  context.print({ ...taken, skipped: taken.skipped.map(shownResult) }, () =>
    process.stdout.isTTY ? `${taken.files} files, ${formatBytes(taken.bytes)}` : "",
  );
}

function shownResult({ path: at, error, errno }: CopyResult) {
  return {
    path: displayText(at),
    ok: error === undefined,
    ...(error === undefined ? {} : { error }),
    ...(errno === undefined ? {} : { errno }),
  };
}
