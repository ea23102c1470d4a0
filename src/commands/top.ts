import { type Command, InvalidArgumentError } from "commander";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  wholeNumber,
  withCommonOptions,
} from "./command-context.js";
import type { Look } from "./top-table.js";

type TopCommandOptions = CommonOptions & { iterations?: number; interval: number };

export function addTopCommand(program: Command): void {
  const command = program
    .command("top")
    .description("all mounts of this host, live; q ends it. Without a terminal: one table, and the end")
    .option(
      "--iterations <n>",
      "tables to print, each after an interval (default: without a terminal 1)",
      wholeNumber,
    )
    .option("--interval <seconds>", "between two looks", secondsOf, 1);
  withCommonOptions(command, { json: "one JSON document a line, one for each look" });
  command.action(async (options: TopCommandOptions) => {
    const context = createContext(options);
    const isLive = process.stdout.isTTY === true && !context.json && options.iterations === undefined;
    await (isLive ? showLive(context, options) : printTables(context, options));
  });
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (/^\d*\.?\d+$/.test(text) && seconds > 0 && seconds <= 3600) return seconds;
  throw new InvalidArgumentError("seconds are needed, more than 0.");
}

async function look({ settings }: CommandContext): Promise<Look> {
  const { observeMounts } = await import("../control/host.js");
  const mounts = await observeMounts(settings.runDir);
  return { atMs: performance.now(), mounts };
}

async function printTables(
  context: CommandContext,
  { iterations = 1, interval }: TopCommandOptions,
): Promise<void> {
  const { ratesOf, topTable } = await import("./top-table.js");
  let before = await look(context);
  for (let printed = 0; printed < iterations; printed++) {
    await nextLook(interval, context.signal);
    context.signal.throwIfAborted();
    const now = await look(context);
    const rates = ratesOf(now, before);
    before = now;
    const line = JSON.stringify({ at: new Date().toISOString(), mounts: rates });
    const table = `${printed > 0 ? "\n" : ""}${topTable(rates)}`;
    process.stdout.write(`${context.json ? line : table}\n`);
  }
}

async function showLive(context: CommandContext, { interval }: TopCommandOptions): Promise<void> {
  const { ratesOf, topTable } = await import("./top-table.js");
  const { LiveScreen } = await import("./live-screen.js");
  const screen = new LiveScreen(process.stdout, process.stdin.isTTY ? process.stdin : undefined);
  const ended = AbortSignal.any([screen.ended, context.signal]);
  try {
    for (let before: Look | undefined; !ended.aborted; ) {
      const now = await look(context);
      const rates = ratesOf(now, before);
      before = now;
      const title = `skim top  ${new Date().toTimeString().slice(0, 8)}  ${rates.length} mounts, ${context.settings.runDir}; q ends`;
      screen.draw(`${title}\n\n${topTable(rates)}`);
      await nextLook(interval, ended);
    }
  } finally {
    screen.close();
  }
}

/** Resolves when the interval is over, or `signal` has ended it. */
function nextLook(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}
