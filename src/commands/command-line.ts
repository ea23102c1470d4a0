/** A program of commands: registers them, runs one, and turns an error into one line and an exit code (documented in errors.ts and the README). */
import { Command, CommanderError } from "commander";
import { describeError, SkimError, withLocalCode } from "../base/errors.js";
import { redact } from "../base/redact.js";
import { skimVersion } from "../base/version.js";

/** What docker, podman and skim say when they themselves fail. */
const runFailureExitCode = 125;
/** Of `skim doctor` and `skim explain`, whose other codes say what was found. */
const couldNotLookExitCode = 3;

/** What describes each command, by its name, in the order of the help. */
export type Commands = Readonly<Record<string, (program: Command) => void>>;

/** Runs the command of this process's arguments, which is one of `commands`. */
export async function runCommandLine(commands: Commands): Promise<void> {
  // A reader that went away (`skim ls ... | head`) is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  try {
    await createProgram(commands).parseAsync();
  } catch (error) {
    // What a failed command left open (a progress bar, a kept-alive connection) must not keep the process.
    process.exit(report(error));
  }
}

function createProgram(commands: Commands): Command {
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
