/**
 * What will go wrong with a chain of programs that starts one another (start-programs.ts), each problem under the check that it belongs to: the command
 * is not there, a script's interpreter, an ELF interpreter, a processor that the host is not.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { isElf } from "../program/elf.js";
import { findCommand } from "../program/find-command.js";
import { baseNameOf, joined } from "../program/program-image.js";
import type { RunProgram, StartedProgram } from "../program/start-programs.js";
import { ownerText } from "./access.js";
import { type Finding, fail, warn } from "./check.js";
import { architectureOf, runsOn } from "./examined-host.js";
import { interpreterAdvice } from "./loaders.js";
import { kernelSays, whyNoFile } from "./reasons.js";
import type { Subject } from "./subject.js";

export type ProblemKind =
  | "entrypoint"
  | "executable"
  | "format"
  | "arch-program"
  | "interp"
  | "script"
  | "env";

export interface StartProblem extends Finding {
  readonly kind: ProblemKind;
}

/** Problems in the order of the start: the first one is what happens. */
export async function startProblems(
  subject: Subject,
  steps: readonly StartedProgram[],
): Promise<StartProblem[]> {
  const problems: StartProblem[] = [];
  for (const [position, step] of steps.entries()) {
    const found = await stepProblem(subject, step, steps, position);
    // What may not be started after all, and what would have been started by it, can only be warned of.
    if (found) problems.push(step.isGuess ? { ...found, status: "warn" } : found);
  }
  return problems;
}

async function stepProblem(
  subject: Subject,
  step: StartedProgram,
  steps: readonly StartedProgram[],
  position: number,
): Promise<StartProblem | undefined> {
  switch (step.kind) {
    case "missing":
      return missingProblem(subject, step, steps.slice(0, position));
    case "unusable":
      return unusableProblem(step);
    case "script":
      return scriptProblem(subject, step);
    case "program":
      return await programProblem(subject, step);
  }
}

function missingProblem(
  subject: Subject,
  step: Extract<StartedProgram, { kind: "missing" }>,
  before: readonly StartedProgram[],
): StartProblem | undefined {
  const name = step.command.args[0]!;
  const shown = displayText(name);
  if (step.role === "interpreter") {
    const script = scriptOf(before, name);
    const path = script ? displayText(script.path) : shown;
    // Said of the script's first line already.
    if (name.endsWith("\r")) return undefined;
    const why = whyNoFile(subject, joined(step.command.directory, name), step.why);
    return {
      kind: "script",
      ...fail(
        path,
        `its first line names ${shown}, ${why} ${kernelSays(step.why)}`,
        `install what brings ${shown}, or name an interpreter that the image has`,
      ),
    };
  }
  if (step.role === "env") {
    const why =
      step.why === "EACCES"
        ? `found on PATH, but not executable for ${subject.userText}`
        : `in none of ${displayText(pathOf(step))}`;
    const detail = name.includes("/") ? whyNoFile(subject, step.searched[0] ?? name, step.why) : why;
    const said = step.why === "EACCES" ? "Permission denied" : "No such file or directory";
    return {
      kind: "env",
      ...fail(
        shown,
        `env(1) is to start it: ${detail} (env will say "${shown}: ${said}", exit code ${step.why === "EACCES" ? 126 : 127})`,
        `install ${shown}, or set PATH so that it is found${elsewhere(subject, name)}`,
      ),
    };
  }
  if (step.why === "EACCES") {
    const at = step.searched.find((path) => isDenied(subject, path)) ?? step.searched[0] ?? name;
    return {
      kind: "executable",
      ...fail(
        displayText(at),
        `${whyNoFile(subject, at, "EACCES")} ${kernelSays("EACCES")}`,
        "give it execute permission (COPY --chmod=755), or start as a user who may run it (--user)",
      ),
    };
  }
  if (name.includes("/")) {
    const path = step.searched[0] ?? name;
    return {
      kind: "entrypoint",
      ...fail(
        displayText(path),
        `${whyNoFile(subject, path, step.why)} ${kernelSays(step.why)}`,
        `correct the command, or put the program there (--inject HOST:${displayText(path)})`,
      ),
    };
  }
  return {
    kind: "entrypoint",
    ...fail(
      shown,
      `in none of ${displayText(pathOf(step))} (the runtime will say "executable file not found in $PATH")`,
      `name it with its path, set PATH (--env), or choose an image that has it${elsewhere(subject, name)}`,
    ),
  };
}

/** There is a file, though not for this user. */
function isDenied(subject: Subject, path: ByteString): boolean {
  const { file, ...none } = subject.programs.find(path);
  return file ? !file.executable : "why" in none && none.why === "EACCES";
}

function pathOf(step: StartedProgram): ByteString {
  const path = step.command.env.find((one) => one.startsWith("PATH="));
  return (path?.slice("PATH=".length) || "an empty PATH") as ByteString;
}

/** Directories that are on nobody's PATH by mistake. */
const usualDirectories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

function elsewhere(subject: Subject, name: ByteString): string {
  const env = [`PATH=${usualDirectories.join(":")}` as ByteString];
  const found = findCommand(subject.programs, name, { args: [], env, directory: "/" as ByteString });
  return found.file ? `; the image has it at ${displayText(found.path)}` : "";
}

function scriptOf(before: readonly StartedProgram[], interpreter: ByteString) {
  return before.findLast(
    (step) => step.kind === "script" && `./${step.line.interpreter}`.endsWith(interpreter),
  ) as Extract<StartedProgram, { kind: "script" }> | undefined;
}

function unusableProblem(step: Extract<StartedProgram, { kind: "unusable" }>): StartProblem {
  const path = displayText(step.path);
  if (step.why === undefined)
    return {
      kind: "format",
      ...warn(
        path,
        `not looked at: ${step.found}`,
        "index the image anew with smaller spans, or from gzip layers",
      ),
    };
  if (step.why === "ELOOP")
    return {
      kind: "script",
      ...fail(path, `${step.found} ${kernelSays("ELOOP")}`, "name a program in the first line, not a script"),
    };
  // execvp(3), as env uses it, gives what the kernel does not know to /bin/sh.
  if (step.role === "env")
    return {
      kind: "format",
      ...warn(path, `${step.found}: env(1) gives it to /bin/sh`, "begin it with #! and an interpreter"),
    };
  return {
    kind: "format",
    ...fail(
      path,
      `neither a program nor a script, ${step.found} ${kernelSays("ENOEXEC")}`,
      "begin a script with #! and its interpreter (without a byte order mark), or put the program itself there",
    ),
  };
}

const strictShells = /^(sh|bash|dash|ash|ksh|zsh|busybox|env)$/;

function scriptProblem(
  subject: Subject,
  step: Extract<StartedProgram, { kind: "script" }>,
): StartProblem | undefined {
  const path = displayText(step.path);
  const { interpreter, argument, carriageReturn } = step.line;
  if (carriageReturn) {
    const shown = displayText(argument ?? interpreter);
    const isFatal = argument === undefined || strictShells.test(baseNameOf(interpreter));
    const said =
      argument === undefined
        ? `the kernel looks for ${shown} ${kernelSays("ENOENT")}`
        : `${displayText(interpreter)} is given ${shown}`;
    const make = isFatal ? fail : warn;
    return {
      kind: "script",
      ...make(
        path,
        `its first line ends as on Windows (CRLF): ${said}`,
        "convert it with dos2unix, and keep git from changing it (.gitattributes: *.sh text eol=lf)",
      ),
    };
  }
  if (subject.view.may(step.file.path, "read")) return undefined;
  const file = subject.tree.attributes(step.file.ino);
  return {
    kind: "script",
    ...fail(
      path,
      `a script, and ${subject.userText} may not read it (${ownerText(file)}): its interpreter will say "Permission denied"`,
      "make it readable (COPY --chmod=755), or start as another user (--user)",
    ),
  };
}

/** Of a program that somebody starts: the processor it is for, then its loader. */
export async function programProblem(
  subject: Subject,
  step: Pick<RunProgram, "path" | "object" | "loader">,
): Promise<StartProblem | undefined> {
  const path = displayText(step.path);
  const architecture = architectureOf(step.object);
  if (!runsOn(subject.host, architecture)) {
    const own = subject.host.platform.architecture;
    return {
      kind: "arch-program",
      ...fail(
        path,
        `a program for ${architecture}, and this host is ${own} ${kernelSays("ENOEXEC")}`,
        `take the image for ${own} (--platform linux/${own}), or install an emulator (qemu-user-static with binfmt_misc)`,
      ),
    };
  }
  const { interpreter } = step.object;
  if (interpreter === undefined || !step.loader) return undefined;
  const shown = displayText(interpreter);
  if (!step.loader.file) {
    const { why } = step.loader;
    return {
      kind: "interp",
      ...fail(
        path,
        `needs ${shown}, ${whyNoFile(subject, interpreter, why)} ${kernelSays(why)}`,
        interpreterAdvice(subject, interpreter),
      ),
    };
  }
  if (!step.loader.file.executable)
    return {
      kind: "interp",
      ...fail(
        path,
        `needs ${shown}, ${whyNoFile(subject, interpreter, "EACCES")} ${kernelSays("EACCES")}`,
        `make ${shown} executable`,
      ),
    };
  const loader = await subject.programs.elf(step.loader.file);
  const misfit = isElf(loader)
    ? architectureOf(loader) === architecture
      ? undefined
      : `which is for ${architectureOf(loader)} and not ${architecture}`
    : loader.kind === "unread"
      ? undefined
      : `which is no ELF object (${loader.found})`;
  if (!misfit) return undefined;
  return {
    kind: "interp",
    ...fail(
      path,
      `needs ${shown}, ${misfit} (the kernel will say "accessing a corrupted shared library")`,
      `put the loader of ${architecture} there`,
    ),
  };
}
