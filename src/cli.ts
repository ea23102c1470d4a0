/**
 * The command line: registers the commands, runs one, and turns an error into one line and an exit code (documented in errors.ts and the README).
 * Commands import what they need when they run: `skim run` should not wait for modules that it does not use.
 */
import { Command, CommanderError } from "commander";
import { describeError, SkimError, withLocalCode } from "./base/errors.js";
import { redact } from "./base/redact.js";
import { skimVersion } from "./base/version.js";
import { addBenchCommand } from "./commands/bench.js";
import { addBundleCommand } from "./commands/bundle.js";
import { addCacheCommand } from "./commands/cache.js";
import { addCatCommand } from "./commands/cat.js";
import { addCpCommand } from "./commands/cp.js";
import { addDaemonCommand } from "./commands/daemon.js";
import { addDoctorCommand } from "./commands/doctor.js";
import { addExecCommand } from "./commands/exec.js";
import { addExplainCommand } from "./commands/explain.js";
import { addFsCommand } from "./commands/fs.js";
import { addGcCommand } from "./commands/gc.js";
import { addIndexCommand } from "./commands/index-image.js";
import { addInspectCommand } from "./commands/inspect.js";
import { addLsCommand } from "./commands/ls.js";
import { addMountCommand, addUmountCommand } from "./commands/mount.js";
import { addProfileCommand } from "./commands/profile.js";
import { addPsCommand } from "./commands/ps.js";
import { addRegistryCommand } from "./commands/registry.js";
import { addRootfsCommand } from "./commands/rootfs.js";
import { addRunCommand } from "./commands/run.js";
import { addStatCommand } from "./commands/stat.js";
import { addStatsCommand } from "./commands/stats.js";
import { addTopCommand } from "./commands/top.js";
import { addTreeCommand } from "./commands/tree.js";
import { addUnpackCommand } from "./commands/unpack.js";
import { addVerifyCommand } from "./commands/verify.js";

/** What docker, podman and skim say when they themselves fail. */
const runFailureExitCode = 125;
/** Of `skim doctor` and `skim explain`, whose other codes say what was found. */
const couldNotLookExitCode = 3;

/** In the order of the help. */
const commands: Readonly<Record<string, (program: Command) => void>> = {
  index: addIndexCommand,
  inspect: addInspectCommand,
  ls: addLsCommand,
  cat: addCatCommand,
  stat: addStatCommand,
  tree: addTreeCommand,
  verify: addVerifyCommand,
  mount: addMountCommand,
  umount: addUmountCommand,
  rootfs: addRootfsCommand,
  bundle: addBundleCommand,
  run: addRunCommand,
  doctor: addDoctorCommand,
  explain: addExplainCommand,
  exec: addExecCommand,
  cp: addCpCommand,
  fs: addFsCommand,
  unpack: addUnpackCommand,
  profile: addProfileCommand,
  cache: addCacheCommand,
  bench: addBenchCommand,
  ps: addPsCommand,
  stats: addStatsCommand,
  daemon: addDaemonCommand,
  gc: addGcCommand,
  top: addTopCommand,
  registry: addRegistryCommand,
};

/** Runs the command of this process's arguments. */
async function runCommandLine(): Promise<void> {
  // A reader that went away (`skim ls ... | head`) is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  try {
    await createProgram().parseAsync();
  } catch (error) {
    // What a failed command left open (a progress bar, a kept-alive connection) must not keep the process.
    process.exit(report(error));
  }
}

function createProgram(): Command {
  const program = new Command("skim")
    .description("start containers from ordinary OCI images without pulling them")
    .version(skimVersion)
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) });

  // The one that is asked for, for describing all of them takes 5 ms; all where it is none of them, for help.
  const [, , name = ""] = process.argv;
  const asked = Object.hasOwn(commands, name) ? [commands[name]!] : Object.values(commands);
  for (const add of asked) add(program);
  // Subcommands do not inherit exitOverride.
  for (const command of allCommands(program))
    command.exitOverride().configureOutput(program.configureOutput());
  return program;
}

/** Prints `error` in one line. Returns the exit code: for commands whose codes say something else one that is not taken for that. */
function report(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const exitCode = printError(error);
  if (exitCode === 130) return exitCode;
  if (["doctor", "explain"].includes(process.argv[2] ?? "")) return couldNotLookExitCode;
  return isRunning() ? runFailureExitCode : exitCode;
}

/** True for commands that exit as their container does. */
function isRunning(): boolean {
  const [, , command, subcommand] = process.argv;
  return command === "run" || command === "exec" || (command === "profile" && subcommand === "record");
}

function printError(thrown: unknown): number {
  const error = withLocalCode(thrown);
  // Commander has printed its own message.
  if (error instanceof CommanderError) return 2;
  if (error instanceof DOMException && error.name === "AbortError") {
    process.stderr.write(`skim: CANCELLED: ${error.message}\n`);
    return 130;
  }
  const code = error instanceof SkimError ? error.code : "INTERNAL";
  // These messages end in what to do, and what the kernel said has been translated.
  const complete = code === "IN_USE" || code === "ENVIRONMENT";
  const text = complete && error instanceof Error ? error.message : describeError(error);
  const line = redact(text).replace(/\s*\n\s*/g, " ");
  process.stderr.write(`skim: ${code}: ${line}\n`);
  if (code === "INTERNAL" && error instanceof Error && process.env.SKIM_DEBUG)
    process.stderr.write(`${error.stack}\n`);
  return error instanceof SkimError ? error.exitCode : 70;
}

/** Commander's message in one line. */
function usageLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, "skim: USAGE: ")
    .replace(/\s*\n\s*/g, " ");
  // `skim run IMAGE ls -l`, as docker takes it.
  const hint =
    (isRunning() || ["bundle", "bench", "doctor", "explain"].includes(process.argv[2] ?? "")) &&
    !process.argv.includes("--") &&
    /unknown option/.test(line);
  return `${line}${hint ? "; the command of the container goes behind --" : ""}\n`;
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child as Command)]) as Command[];
}

void runCommandLine();
