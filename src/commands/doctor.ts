import path from "node:path";
import { type Command, Option } from "commander";
import { parseByteAmount } from "../base/byte-amount.js";
import { SkimError } from "../base/errors.js";
import type { InjectedPath } from "../doctor/subject.js";
import { type ToolProfile, toolProfileNames } from "../doctor/tool-profiles.js";
import type { Platform } from "../image/platform.js";
import type { ExamineImageOptions } from "../mount/examine-image.js";
import { parseSeedDirectory, type SeedDirectory } from "../overlay/seed-directory.js";
import { type RuntimeName, runtimeNames } from "../runtime/runtime-command.js";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  repeated,
  withCommonOptions,
  withRegistryOptions,
} from "./command-context.js";
import { checkLine, summaryLine, wantsColour } from "./examination-text.js";
import { containerRequest } from "./run.js";

/** Options of what examines an image: those of `skim run` that say how it is started, and what else to look for. */
export interface ExamineCommandOptions extends CommonOptions {
  platform?: Platform;
  source?: string;
  runtime: RuntimeName;
  env?: string[];
  user?: string;
  workdir?: string;
  entrypoint?: string;
  mount?: string[];
  dir?: SeedDirectory[];
  inject?: InjectedPath[];
  deps?: boolean;
  require?: string[];
  profile?: ToolProfile;
  fetchBytesMax?: number;
}

export function addDoctorCommand(program: Command): void {
  const command = program
    .command("doctor")
    .description(
      "what will go wrong when an image starts, found out without pulling it; exits with 0 (nothing), 1 (warnings, with --strict), 2 (it will fail), 3 (could not look)",
    )
    .argument("[ARCHIVE|IMAGE]", "an archive, or an image (indexed first if need be)")
    .argument("[ARGS...]", "behind --: the command, instead of the image's")
    .option("--strict", "warnings make the exit code 1")
    .option("--list-checks", "print what is checked, and how each is mended");
  withCommonOptions(withExamineOptions(command));
  command.action(async (image: string | undefined, args: string[], options: DoctorCommandOptions) => {
    const context = createContext(options);
    if (options.listChecks) return await listChecks(context);
    if (image === undefined) throw new SkimError("USAGE", "no image was named: skim doctor IMAGE");
    const { examineImage } = await import("../mount/examine-image.js");
    const examination = await examineImage(examineRequest(image, args, options, context));
    const colour = wantsColour(process.stdout);
    context.print(examination, () =>
      [...examination.checks.map((check) => checkLine(check, colour)), summaryLine(examination)].join("\n"),
    );
    const { fail, warn } = examination.counts;
    process.exitCode = fail > 0 ? 2 : warn > 0 && options.strict ? 1 : 0;
  });
}

type DoctorCommandOptions = ExamineCommandOptions & { strict?: boolean; listChecks?: boolean };

async function listChecks(context: CommandContext): Promise<void> {
  const { allChecks } = await import("../doctor/examine.js");
  context.print(
    allChecks.map(({ id, asks, fix }) => ({ id, asks, fix })),
    () => allChecks.map(({ id, asks, fix }) => `${id}: ${asks}? Fix: ${fix}`).join("\n"),
  );
}

export function withExamineOptions(command: Command): Command {
  return withRegistryOptions(command)
    .option("--source <IMAGE>", "fetch layers from this image's registry instead of the one that was indexed")
    .addOption(
      new Option("--runtime <runtime>", "what will run it").choices([...runtimeNames]).default("runc"),
    )
    .option("--env <K=V>", "environment variable; K alone: this process's value (repeatable)", repeated)
    .option("--user <user[:group]>", "names from the image's passwd and group, or numbers")
    .option("--workdir <dir>", "working directory")
    .option("--entrypoint <program>", "instead of the image's; the image's arguments are dropped")
    .option("--mount <spec>", "as skim run takes it (repeatable)", repeated)
    .option(
      "--dir <path[:mode]>",
      "a directory that must be there (repeatable)",
      (text, before: SeedDirectory[] = []) => [...before, parseSeedDirectory(text)],
    )
    .option(
      "--inject <host:path>",
      "a file or directory of this host that will be mounted at PATH (repeatable)",
      (text, before: InjectedPath[] = []) => [...before, parseInjected(text)],
    )
    .option("--deps", "libraries and versions of symbols too: reads the head of each library")
    .option(
      "--require <tool,...>",
      "programs that must be there (repeatable)",
      (text, before: string[] = []) => [...before, ...text.split(",").filter(Boolean)],
    )
    .addOption(
      new Option("--profile <name>", "programs and places that its users count on").choices(toolProfileNames),
    )
    .option(
      "--fetch-bytes-max <amount>",
      "what may be fetched to find out (default 64MiB); what lies beyond is not judged",
      (text) => fetchAmount(text),
    );
}

function fetchAmount(text: string): number {
  const amount = parseByteAmount(text);
  if ("bytes" in amount) return amount.bytes;
  throw new SkimError("USAGE", `--fetch-bytes-max ${JSON.stringify(text)} is no amount; e.g. 64MiB`);
}

/** Reads `HOST:PATH`; the last colon before a slash parts them. Throws USAGE. */
function parseInjected(text: string): InjectedPath {
  const colon = text.lastIndexOf(":/");
  if (colon <= 0 || text.includes("\0"))
    throw new SkimError(
      "USAGE",
      `--inject ${JSON.stringify(text)} is not of the form HOST:PATH with an absolute PATH, e.g. /opt/node20:/__e/node20`,
    );
  return { host: path.resolve(text.slice(0, colon)), path: path.posix.normalize(text.slice(colon + 1)) };
}

export function examineRequest(
  image: string,
  args: string[],
  options: ExamineCommandOptions,
  context: CommandContext,
): ExamineImageOptions {
  // Of the same name: what root may do in a container. It decides nothing here.
  const { profile: _, ...container } = options;
  const { network: __, ...start } = containerRequest(args, { ...container, network: "host" });
  return {
    ...start,
    ...examineSettings(options, context),
    image,
  };
}

/** What does not say how it is started. */
export function examineSettings(options: ExamineCommandOptions, context: CommandContext) {
  return {
    settings: context.settings,
    progress: context.progress,
    logger: context.logger,
    signal: context.signal,
    deps: options.deps ?? false,
    ...(options.dir ? { directories: options.dir } : {}),
    ...(options.inject ? { injected: options.inject } : {}),
    ...(options.require ? { tools: options.require } : {}),
    ...(options.profile ? { toolProfile: options.profile } : {}),
    ...(options.platform ? { platform: options.platform } : {}),
    ...(options.source ? { source: options.source } : {}),
    ...(options.fetchBytesMax === undefined ? {} : { fetchBytesMax: options.fetchBytesMax }),
  };
}
