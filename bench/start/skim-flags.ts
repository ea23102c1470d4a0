/** Which of its options the skim at hand has: the benchmark also measures versions that had not all of them. */
import { run } from "../support/processes.js";
import { cliFile } from "../support/registry-process.js";

export interface SkimFlags {
  /** `skim run --prefetch auto|start-set|none`. */
  readonly prefetch: boolean;
  /** `skim profile record IMAGE -- CMD`. */
  readonly profile: boolean;
  /** `skim run --background-fill off|idle|RATE`. */
  readonly backgroundFill: boolean;
}

export async function readSkimFlags(signal: AbortSignal): Promise<SkimFlags> {
  const help = async (...args: string[]) =>
    (await run(process.execPath, [cliFile, ...args, "--help"], { signal })).stdout;
  return flagsIn(await help("run"), await help());
}

/** From what `skim run --help` and `skim --help` print. */
export function flagsIn(runHelp: string, help: string): SkimFlags {
  return {
    prefetch: /^ +--prefetch\b/m.test(runHelp),
    profile: /^ +profile\b/m.test(help),
    backgroundFill: /^ +--background-fill\b/m.test(runHelp),
  };
}

export const withoutPrefetch = (flags: SkimFlags): string[] => (flags.prefetch ? ["--prefetch", "none"] : []);
export const withPrefetch = (flags: SkimFlags): string[] => (flags.prefetch ? ["--prefetch", "auto"] : []);
/** Where it is measured beside a start, and not meant to take part in it. */
export const withoutFill = (flags: SkimFlags): string[] =>
  flags.backgroundFill ? ["--background-fill", "off"] : [];
