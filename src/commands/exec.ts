import type { Command } from "commander";
import {
  type CommonOptions,
  createContext,
  ignoreInterrupts,
  repeated,
  withCommonOptions,
} from "./command-context.js";
import { environmentOption, terminalOption } from "./run.js";

interface ExecCommandOptions extends CommonOptions {
  env?: string[];
  user?: string;
  workdir?: string;
  tty?: boolean;
}

export function addExecCommand(program: Command): void {
  const command = program
    .command("exec")
    .description("start a process in a container of skim run; exits as the process does")
    .argument("<ID>", "of the container")
    .argument("<ARGS...>", "behind --: the command")
    .option("--env <K=V>", "environment variable; K alone: this process's value (repeatable)", repeated)
    .option("--user <user[:group]>", "default: the container's; names from its passwd and group, or numbers")
    .option("--workdir <dir>", "default: the container's")
    .option("--tty", "give the process a terminal (default: when standard input and output are one)")
    .option("--no-tty", "never");
  withCommonOptions(command, { json: false });
  command.action(async (id: string, args: string[], options: ExecCommandOptions) => {
    const { execContainer } = await import("../mount/exec-container.js");
    const context = createContext(options);
    const { exitCode } = await execContainer({
      id,
      args,
      env: environmentOption(options.env),
      settings: context.settings,
      signal: context.signal,
      onStart: () => ignoreInterrupts(true),
      terminal: terminalOption(options.tty),
      ...(options.user !== undefined ? { user: options.user } : {}),
      ...(options.workdir !== undefined ? { workdir: options.workdir } : {}),
    }).finally(() => ignoreInterrupts(false));
    process.exitCode = exitCode;
  });
}
