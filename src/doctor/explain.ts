/** Maps a failed start to the check that explains it. What no check explains is said to be so. */
import type { CheckStatus } from "./check.js";
import type { ExaminedCheck } from "./examine.js";
import { type Symptom, symptomsOf } from "./symptoms.js";

export interface StartFailure {
  readonly exitCode?: number;
  /** What was written to the standard error, by the runtime or the program. */
  readonly output?: string;
}

export interface Explanation {
  /** What explains the failure; undefined where nothing does. */
  readonly cause: ExaminedCheck | undefined;
  /** What was seen, the most telling first. */
  readonly seen: readonly Pick<Symptom, "id" | "meaning">[];
  /** What failed too, and either follows from the cause or is another matter. */
  readonly alsoFailed: readonly ExaminedCheck[];
  /** Checks that were looked at for this failure. */
  readonly lookedAt: readonly string[];
  /** False: it will fail the same way until something is changed. */
  readonly retryHelps: boolean;
}

/** The order in which a start comes to them: the first that fails is what happens. */
export const causalOrder: readonly string[] = [
  "manifest",
  "layer-type",
  "layer-content",
  "hard-links",
  "arch",
  "user",
  "mount-target",
  "directory",
  "link-counts",
  "mount",
  "workdir",
  "entrypoint",
  "executable",
  "arch-program",
  "format",
  "script",
  "interp",
  "env",
  "wrapped",
  "libraries",
  "symbol-versions",
  "arch-shell",
  "tool",
  "tmp",
  "home",
];

export function explainFailure(checks: readonly ExaminedCheck[], failure: StartFailure): Explanation {
  const output = failure.output ?? "";
  const seen = symptomsOf(output, failure.exitCode);
  const failed = checks.filter(({ status }) => status === "fail").sort(byCause);
  const cause =
    seen.length === 0 && failure.exitCode === undefined && output === ""
      ? failed[0]
      : (causeAmong(checks, seen, output, "fail") ?? causeAmong(checks, seen, output, "warn"));
  return {
    cause,
    seen: seen.map(({ id, meaning }) => ({ id, meaning })),
    alsoFailed: failed.filter((check) => check !== cause),
    lookedAt: [...new Set(seen.flatMap((symptom) => symptom.checks))],
    retryHelps: cause === undefined && (seen[0] === undefined || seen[0].mayPass === true),
  };
}

/** Of the first symptom that a check accounts for: what the output itself names, else what a start comes to first. */
function causeAmong(
  checks: readonly ExaminedCheck[],
  seen: readonly Symptom[],
  output: string,
  status: CheckStatus,
): ExaminedCheck | undefined {
  for (const symptom of seen) {
    const found = checks
      .filter((check) => check.status === status && symptom.checks.includes(check.id))
      // What is only odd explains only what it is named in, or what it alone is about.
      .filter((check) => status === "fail" || symptom.checks.length === 1 || isNamed(check, output))
      .sort(byCause);
    const named = found.find((check) => isNamed(check, output));
    if (named ?? found[0]) return named ?? found[0];
  }
  return undefined;
}

function byCause(a: ExaminedCheck, b: ExaminedCheck): number {
  const rank = ({ id }: ExaminedCheck) =>
    causalOrder.includes(id) ? causalOrder.indexOf(id) : causalOrder.length;
  return rank(a) - rank(b);
}

/** The output has the check's path, as a word of its own. */
function isNamed({ path }: ExaminedCheck, output: string): boolean {
  if (path === undefined || path.length < 2) return false;
  for (let at = output.indexOf(path); at >= 0; at = output.indexOf(path, at + 1)) {
    const before = output[at - 1] ?? " ";
    const after = output[at + path.length] ?? " ";
    if (!/[\w/.-]/.test(before) && !/[\w-]/.test(after)) return true;
  }
  return false;
}
