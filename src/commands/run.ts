import { writeFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseByteAmount } from "../base/byte-amount.js";
import { SkimError } from "../base/errors.js";
import { type RuntimeName, runtimeNames } from "../runtime/runtime-command.js";
import { type ProfileName, profileNames } from "../runtime/spec-profiles.js";
import {
  type CommandContext,
  createContext,
  ignoreInterrupts,
  repeated,
  wholeNumber,
  withCommonOptions,
} from "./command-context.js";
import { parseMount } from "./container-mount.js";
import { checkLine } from "./examination-text.js";
import { type RootfsCommandOptions, rootfsRequest, withRootfsOptions } from "./rootfs.js";

interface ContainerCommandOptions extends RootfsCommandOptions {
  runtime: RuntimeName;
  env?: string[];
  user?: string;
  workdir?: string;
  entrypoint?: string;
  hostname?: string;
  mount?: string[];
  tty?: boolean;
  network: "host" | "none";
  readOnly?: boolean;
  memory?: number;
  cpus?: number;
  pidsLimit?: number;
  profile?: ProfileName;
}

export function addRunCommand(program: Command): void {
  const command = program
    .command("run")
    .description(
      "run an image: lazily mounted, writable layer on top, under runc, crun or gVisor; exits as the process does",
    )
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .argument("[ARGS...]", "behind --: the command, instead of the image's")
    .option("--id <id>", "name of the container (default: a random one)")
    .addOption(
      new Option(
        "--runsc-overlay <where>",
        "under runsc: what is written is in the upper dir on the host, or in the sandbox alone",
      )
        .choices(["host", "own"])
        .default("host"),
    )
    .option("--stats <file>", "write what was fetched and how long the start took as JSON, at the end");
  withCommonOptions(withContainerOptions(withRootfsOptions(command)), { json: false });
  command.action(async (image: string, args: string[], options: RunCommandOptions) => {
    // At once: a mount server that could not be taken down would keep us, and cleans up when we are gone.
    process.exit(await runCommand(image, args, options, createContext(options)));
  });
}

export type RunCommandOptions = ContainerCommandOptions & {
  id?: string;
  stats?: string;
  runscOverlay?: "host" | "own";
};

/** Runs a container. Returns its exit code. */
export async function runCommand(
  image: string,
  args: string[],
  options: RunCommandOptions,
  context: CommandContext,
): Promise<number> {
  const { runImage } = await import("../control/host.js");
  const ran = await runImage({
    ...rootfsRequest(image, options, context),
    ...containerRequest(args, options),
    terminal: terminalOption(options.tty),
    ...(options.id ? { id: options.id } : {}),
    ...(options.runscOverlay ? { runscOverlay: options.runscOverlay } : {}),
    onStart: () => ignoreInterrupts(true),
  }).finally(() => ignoreInterrupts(false));
  if (ran.cause) process.stderr.write(`skim: it did not start: ${checkLine(ran.cause)}\n`);
  if (options.stats) {
    await writeFile(options.stats, `${JSON.stringify(ran, null, 2)}\n`).catch((cause: unknown) => {
      throw new SkimError("LOCAL_IO", `cannot write ${options.stats}`, { cause });
    });
  }
  return ran.exitCode;
}

export function withContainerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--runtime <runtime>", "what runs the container").choices([...runtimeNames]).default("runc"),
    )
    .option("--env <K=V>", "environment variable; K alone: this process's value (repeatable)", repeated)
    .option("--user <user[:group]>", "names from the image's passwd and group, or numbers")
    .option("--workdir <dir>", "working directory")
    .option("--entrypoint <program>", "instead of the image's; the image's arguments are dropped")
    .option("--hostname <name>", "default: this host's")
    .option(
      "--mount <spec>",
      "type=bind,source=DIR,target=DIR[,readonly] or type=tmpfs,target=DIR (repeatable)",
      repeated,
    )
    .option("--read-only", "nothing can be written but in other mounts")
    .option("--memory <amount>", "limit of memory: 512MiB", memoryAmount)
    .option("--cpus <number>", "limit of processor time, in processors: 1.5", processors)
    .option("--pids-limit <number>", "limit of processes and threads", wholeNumber)
    .addOption(
      new Option("--profile <name>", "what root may do: as docker's containers, or as those of `runc spec`")
        .choices([...profileNames])
        .default("docker"),
    )
    .option("--tty", "give the process a terminal (default: when standard input and output are one)")
    .option("--no-tty", "never")
    .addOption(
      new Option("--network <network>", "the host's, or none at all")
        .choices(["host", "none"])
        .default("host"),
    );
}

function memoryAmount(text: string): number {
  const amount = parseByteAmount(text);
  if ("bytes" in amount) return amount.bytes;
  throw new InvalidArgumentError("an amount such as 512MiB is needed.");
}

function processors(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a number such as 1.5 is needed.");
}

export function containerRequest(args: string[], options: ContainerCommandOptions) {
  return {
    runtime: options.runtime,
    network: options.network,
    readonlyRootfs: options.readOnly ?? false,
    limits: {
      ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.pidsLimit === undefined ? {} : { pids: options.pidsLimit }),
    },
    ...(options.profile ? { profile: options.profile } : {}),
    env: environmentOption(options.env),
    mounts: (options.mount ?? []).map(parseMount),
    ...(args.length ? { args } : {}),
    ...(options.user !== undefined ? { user: options.user } : {}),
    ...(options.workdir !== undefined ? { workdir: options.workdir } : {}),
    ...(options.entrypoint !== undefined ? { entrypoint: [options.entrypoint] } : {}),
    ...(options.hostname !== undefined ? { hostname: options.hostname } : {}),
  };
}

/** A terminal on both sides: the program gets one of its own, unless told otherwise. Throws USAGE where there is none to be passed on. */
export function terminalOption(tty: boolean | undefined): boolean {
  const isTerminal = process.stdin.isTTY === true;
  if (tty && !isTerminal)
    throw new SkimError("USAGE", "--tty: standard input is not a terminal; leave --tty out");
  return tty ?? (isTerminal && process.stdout.isTTY === true);
}

/** `--env` as it was given: NAME=value as it is, NAME with the value of this process, or nothing where it has none. Throws USAGE. */
export function environmentOption(variables: readonly string[] = []): string[] {
  return variables.flatMap((variable) => {
    if (variable === "" || variable.startsWith("=")) {
      throw new SkimError(
        "USAGE",
        `--env ${JSON.stringify(variable)} names no variable; give NAME=value or NAME`,
      );
    }
    if (variable.includes("=")) return [variable];
    const value = process.env[variable];
    return value === undefined ? [] : [`${variable}=${value}`];
  });
}

export type { ContainerCommandOptions };
