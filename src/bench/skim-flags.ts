/** Which of its options the skim at hand has: what measures skim also measures versions that have not all of them. */
export interface SkimFlags {
  /** `skim run --prefetch auto|start-set|none`. */
  readonly prefetch: boolean;
  /** `skim profile record IMAGE -- CMD`. */
  readonly profile: boolean;
  /** `skim run --background-fill off|idle|RATE`. */
  readonly backgroundFill: boolean;
  /** `skim daemon`. */
  readonly daemon: boolean;
}

/** From what `skim run --help` and `skim --help` print. */
export function flagsIn(runHelp: string, help: string): SkimFlags {
  return {
    prefetch: /^ +--prefetch\b/m.test(runHelp),
    profile: /^ +profile\b/m.test(help),
    daemon: /^ +daemon\b/m.test(help),
    backgroundFill: /^ +--background-fill\b/m.test(runHelp),
  };
}

export const withoutPrefetch = (flags: SkimFlags): string[] => (flags.prefetch ? ["--prefetch", "none"] : []);
export const withPrefetch = (flags: SkimFlags): string[] => (flags.prefetch ? ["--prefetch", "auto"] : []);
/** For a start whose fetches are counted: the fill would fetch the rest of the image. */
export const withoutFill = (flags: SkimFlags): string[] =>
  flags.backgroundFill ? ["--background-fill", "off"] : [];
