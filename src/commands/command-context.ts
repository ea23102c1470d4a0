/**
 * What every command shares: the options that all of them take, settings and logger made from them, an AbortSignal for Ctrl-C, and how
 * results are printed (text for people, one JSON document with --json).
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { createLogger, type Logger, type LogLevel, logLevels } from "../base/logger.js";
import { parseMirrors } from "../base/mirror-settings.js";
import type { Progress } from "../base/progress.js";
import { resolveSettings, type Settings, type SettingsInput } from "../base/settings.js";
import { parsePlatform } from "../image/platform.js";
import { createProgress } from "./progress-bars.js";

export interface CommandContext {
  readonly settings: Settings;
  readonly logger: Logger;
  readonly logLevel: LogLevel;
  readonly json: boolean;
  /** Fires on SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  /** Bars on a terminal, lines elsewhere, nothing with --json. */
  readonly progress: Progress;
  /** One JSON document, or the text. */
  print(data: unknown, text: () => string): void;
}

export interface CommonOptions {
  json?: boolean;
  logLevel?: LogLevel;
  cacheDir?: string;
  runDir?: string;
  config?: string;
  cacheBytesMax?: string;
  cacheFreeBytesMin?: string;
  insecureRegistry?: string[];
  mirror?: string[];
  spanSize?: number;
}

/** Adds the options that every command takes; `json`: false where it prints no data, or what `--json` does other than usual. */
export function withCommonOptions(command: Command, options: { json?: boolean | string } = {}): Command {
  const json = options.json ?? true;
  if (json) command.option("--json", json === true ? "print one JSON document" : json);
  return command
    .addOption(
      new Option("--log-level <level>", "what is written to standard error")
        .choices([...logLevels])
        .default("error"),
    )
    .option(
      "--cache-dir <dir>",
      "archives, layer indexes and cached data (SKIM_CACHE_DIR; default /var/lib/skim)",
    )
    .option(
      "--cache-bytes-max <amount>",
      "what the layers in the cache may take: 20GiB, 50% of the disk (SKIM_CACHE_BYTES_MAX; default 50%)",
    )
    .option(
      "--cache-free-bytes-min <amount>",
      "what the cache leaves free on its disk (SKIM_CACHE_FREE_BYTES_MIN; default 1GiB, or 2% of a small disk)",
    )
    .option("--run-dir <dir>", "records of what is mounted (SKIM_RUN_DIR; default /run/skim)")
    .option("--config <file>", "settings file (SKIM_CONFIG; default /etc/skim/config.json)");
}

/** Adds the options of commands that talk to registries. */
export function withRegistryOptions(command: Command): Command {
  return withRegistryHostOptions(
    withPlatformOption(command).option(
      "--span-size <bytes>",
      "uncompressed bytes between restart points",
      wholeNumber,
    ),
  );
}

export function withPlatformOption(command: Command): Command {
  return command.option(
    "--platform <os/arch[/variant]>",
    "platform of a multi-platform image (default: this host's)",
    parsePlatform,
  );
}

/** How registries are reached. One value each time: an option that took several would take the image behind it as well. */
export function withRegistryHostOptions(command: Command): Command {
  return command
    .option(
      "--insecure-registry <host>",
      "a registry to speak plain http with; loopback always may (repeatable)",
      repeated,
    )
    .option(
      "--mirror <registry=url[,url]>",
      "mirrors to ask before a registry, in this order (repeatable)",
      repeated,
    );
}

/** For options that can be given more than once. */
export function repeated(value: string, before: string[] = []): string[] {
  return [...before, value];
}

/** A server's log is a file that is read when something went wrong: it tells more than a terminal wants to see. */
export function serverLogLevel(context: CommandContext): LogLevel {
  return context.logLevel === "error" ? "info" : context.logLevel;
}

export function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a whole number is needed.");
}

export function createContext(options: CommonOptions): CommandContext {
  const given: SettingsInput = {};
  if (options.cacheDir !== undefined) given.cacheDir = options.cacheDir;
  if (options.runDir !== undefined) given.runDir = options.runDir;
  if (options.cacheBytesMax !== undefined) given.cacheBytesMax = options.cacheBytesMax;
  if (options.cacheFreeBytesMin !== undefined) given.cacheFreeBytesMin = options.cacheFreeBytesMin;
  if (options.insecureRegistry !== undefined) given.insecureRegistries = options.insecureRegistry;
  if (options.mirror !== undefined) given.mirrors = parseMirrors(options.mirror);
  if (options.spanSize !== undefined) given.spanBytes = options.spanSize;
  const logLevel = options.logLevel ?? "error";
  const json = options.json ?? false;
  return {
    settings: resolveSettings(given, process.env, options.config),
    logger: createLogger(logLevel),
    logLevel,
    json,
    signal: interruptSignal(),
    progress: createProgress({ stream: process.stderr, quiet: json }),
    print(data, text) {
      const output = json ? JSON.stringify(data, null, 2) : text();
      if (output) process.stdout.write(`${output}\n`);
    },
  };
}

let interrupt: AbortController | undefined;

/** The first Ctrl-C lets the command undo what it did; the second ends it at once. */
function interruptSignal(): AbortSignal {
  if (interrupt) return interrupt.signal;
  const controller = new AbortController();
  interrupt = controller;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (ignoringInterrupts) return;
      if (controller.signal.aborted) process.exit(130);
      controller.abort(new DOMException(`interrupted by ${name}`, "AbortError"));
    });
  }
  return controller.signal;
}

let ignoringInterrupts = false;

/** While a container runs, signals are the container's: the runtime forwards them, and we wait for its end. A mount in the foreground takes its own. */
export function ignoreInterrupts(on: boolean): void {
  ignoringInterrupts = on;
}
