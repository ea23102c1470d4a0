import { readFile } from "node:fs/promises";
import { text as readText } from "node:stream/consumers";
import type { Command } from "commander";
import { SkimError } from "../base/errors.js";
import type { ExplainedFailure } from "../mount/explain-failure.js";
import { createContext, wholeNumber, withCommonOptions } from "./command-context.js";
import { type ExamineCommandOptions, examineRequest, examineSettings, withExamineOptions } from "./doctor.js";
import { checkLine, summaryLine, wantsColour } from "./examination-text.js";

type ExplainCommandOptions = ExamineCommandOptions & { exitCode?: number; stderr?: string };

/** More than a runtime says; the reason of a failed start stands at the end. */
const outputCharactersMax = 64 * 1024;

export function addExplainCommand(program: Command): void {
  const command = program
    .command("explain")
    .description(
      "which check explains a start that failed; exits with 0 (explained), 1 (nothing explains it), 3 (could not look)",
    )
    .argument("<ARCHIVE|IMAGE|ID>", "what was started, or the id of a rootfs or container of skim's")
    .argument("[ARGS...]", "behind --: the command that was started, instead of the image's")
    .option("--exit-code <number>", "how it ended", wholeNumber)
    .option("--stderr <file>", "what it, or the runtime, wrote to its standard error; -: standard input");
  withCommonOptions(withExamineOptions(command));
  command.action(async (name: string, args: string[], options: ExplainCommandOptions) => {
    const { explainImageFailure, explainRecordedFailure } = await import("../mount/explain-failure.js");
    const context = createContext(options);
    const failure = {
      ...(options.exitCode === undefined ? {} : { exitCode: options.exitCode }),
      ...(options.stderr === undefined ? {} : { output: await readOutput(options.stderr) }),
    };
    const explained =
      (await explainRecordedFailure(name, failure, examineSettings(options, context))) ??
      (await explainImageFailure(examineRequest(name, args, options, context), failure));
    const colour = wantsColour(process.stdout);
    context.print(explained, () => describe(explained, colour));
    process.exitCode = explained.cause ? 0 : 1;
  });
}

async function readOutput(file: string): Promise<string> {
  try {
    const output = file === "-" ? await readText(process.stdin) : await readFile(file, "utf8");
    return output.slice(-outputCharactersMax);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `${file} cannot be read`, { cause });
  }
}

function describe(
  { cause, seen, alsoFailed, lookedAt, retryHelps, examination }: ExplainedFailure,
  colour: boolean,
) {
  const lines = seen.slice(0, 1).map(({ meaning }) => `seen: ${meaning}`);
  if (cause) lines.push(checkLine(cause, colour));
  else if (lookedAt.length > 0) lines.push(`no check explains it; looked at: ${lookedAt.join(", ")}`);
  else lines.push("no check explains it: nothing that was seen is a matter of the image");
  if (alsoFailed.length > 0) {
    lines.push(cause ? "these fail too:" : "these fail, though what was seen does not tell of them:");
    lines.push(...alsoFailed.map((check) => checkLine(check, colour)));
  }
  lines.push(
    cause
      ? "trying again cannot help: it fails the same way until this is mended"
      : retryHelps
        ? "trying again may end otherwise"
        : "trying again will hardly help",
    summaryLine(examination),
  );
  return lines.join("\n");
}
