/**
 * What will go wrong with a chain of programs that starts one another (start-programs.ts), each problem under the check that it belongs to: the command
 * is not there, a script's interpreter, an ELF interpreter, a processor that the host is not.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { isElf } from "../program/elf.js";
import { findCommand } from "../program/find-command.js";
import { baseNameOf, type ImageFile, joined } from "../program/program-image.js";
import { type RunProgram, type StartedProgram, whyNoProgram } from "../program/start-programs.js";
import { ownerText } from "./access.js";
import { type Finding, fail, warn } from "./check.js";
import { architectureOf, runsOn } from "./examined-host.js";
import { interpreterAdvice } from "./loaders.js";
import { kernelSays, libraryWords, whyNoFile } from "./reasons.js";
import { runnable } from "./runtime-search.js";
import type { Subject } from "./subject.js";

export type ProblemKind =
  | "entrypoint"
  | "executable"
  | "format"
  | "arch-program"
  | "interp"
  | "script"
  | "env"
  | "wrapped";

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
      return (await programProblem(subject, step)) ?? splittingProblem(step);
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
  if (step.role !== "command") return notStartedProblem(subject, step);
  if (step.why === "EACCES") {
    const at = step.searched.find((path) => isDenied(subject, path)) ?? step.searched[0] ?? name;
    return {
      kind: "executable",
      ...fail(
        displayText(at),
        `${whyNoFile(subject, at, "EACCES")} ${isPassedOver(subject, name, at) ? runtimeFindsNothing : kernelSays("EACCES")}`,
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
      `in none of ${pathOf(step)} ${runtimeFindsNothing}`,
      `name it with its path, set PATH (--env), or choose an image that has it${elsewhere(subject, name)}`,
    ),
  };
}

/** What a program that the kernel has started is to start in turn: env(1), tini and its like, a shell. */
function notStartedProblem(
  subject: Subject,
  step: Extract<StartedProgram, { kind: "missing" }>,
): StartProblem {
  const name = step.command.args[0]!;
  const shown = displayText(name);
  const isDenied = step.why === "EACCES" || step.why === "EISDIR";
  const onPath = isDenied
    ? `found on PATH, but not executable for ${subject.userText}`
    : `in none of ${pathOf(step)}`;
  const why = name.includes("/") ? whyNoFile(subject, step.searched[0] ?? name, step.why) : onPath;
  const starter = displayText(step.startedBy!);
  const said = isDenied ? "Permission denied" : step.role === "shell" ? "not found" : libraryWords(step.why);
  const starterFile = subject.programs.find(step.startedBy!).file;
  // A busybox shell may run applets that have no name in the tree; gosu, a Go program, has other words.
  const unless = step.role === "shell" && starterFile && baseNameOf(starterFile.path) === "busybox";
  const told = unless ? `unless busybox has it built in, it will say "${said}"` : `it will say "${said}"`;
  const words = /\/gosu$/.test(starter) ? "" : ` (${told})`;
  return {
    kind: step.role === "env" ? "env" : "wrapped",
    ...fail(
      shown,
      `${starter} is to start it: ${why}${words}`,
      `install ${shown}, or set PATH so that it is found${elsewhere(subject, name)}`,
    ),
  };
}

const runtimeFindsNothing = '(the runtime will say "executable file not found in $PATH")';

/** Runtimes pass over what they find along PATH without any execute bit, and what they cannot reach. */
function isPassedOver(subject: Subject, name: ByteString, at: ByteString): boolean {
  if (name.includes("/")) return false;
  return runnable(subject, at) === undefined;
}

/** There is a file, though not for this user. */
function isDenied(subject: Subject, path: ByteString): boolean {
  const { file, ...none } = subject.programs.find(path);
  return file ? !file.executable : "why" in none && none.why === "EACCES";
}

/** Of whatever length: as much as anybody reads. */
const pathEntriesShownMax = 16;

function pathOf(step: StartedProgram): string {
  const path = step.command.env.find((one) => one.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  const entries = path.split(":");
  const shown = displayText(entries.slice(0, pathEntriesShownMax).join(":") as ByteString).slice(0, 1000);
  const more = entries.length - pathEntriesShownMax;
  return more > 0 ? `${shown} and ${more} more` : shown || "an empty PATH";
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
  if (step.why === "ELIBBAD")
    return {
      kind: "format",
      ...fail(
        path,
        `damaged: ${step.found} (its loader will refuse it, or crash)`,
        "copy it, or build it, again",
      ),
    };
  if (step.why === "SIGBUS")
    return {
      kind: "format",
      ...fail(
        path,
        `cut off: ${step.found} (it will end with SIGBUS or SIGSEGV, exit code 135 or 139)`,
        "copy it, or build the image, again: a part of the file is missing",
      ),
    };
  if (step.why === "ELOOP")
    return {
      kind: "script",
      ...fail(path, `${step.found} ${kernelSays("ELOOP")}`, "name a program in the first line, not a script"),
    };
  // execvp(3), as env and init programs use it, gives what the kernel does not know to /bin/sh; so do shells, to themselves.
  if (step.role !== "command" && step.role !== "interpreter")
    return {
      kind: "format",
      ...warn(path, `${step.found}: it is given to a shell`, "begin it with #! and an interpreter"),
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

/** busybox's env(1), up to 1.37 at least, does not split. */
function splittingProblem(step: RunProgram): StartProblem | undefined {
  const [name, ...args] = step.command.args;
  const isBusybox = baseNameOf(step.file.path) === "busybox" && baseNameOf(name!) === "env";
  if (!isBusybox || !/^(-[a-zA-Z]*S|--split-string)/.test(args[0] ?? "")) return undefined;
  const path = displayText(step.path);
  const advice = "install coreutils' env, or name the interpreter by its path in the first line";
  return {
    kind: "env",
    ...fail(path, `busybox's env, which does not know -S and ends with its usage`, advice),
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
  const shown = displayText(interpreter) || "an ELF interpreter without a name";
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
  const misfit = await loaderMisfit(subject, step.loader.file, architecture);
  return misfit === undefined
    ? undefined
    : {
        kind: "interp",
        ...fail(path, `needs ${shown}, ${misfit}`, `put the loader of ${architecture} there`),
      };
}

/** Elf64_Ehdr; a kernel that cannot read so much of an interpreter says EIO. */
const elfHeaderBytes = 64;

async function loaderMisfit(
  subject: Subject,
  file: ImageFile,
  architecture: string,
): Promise<string | undefined> {
  const loader = await subject.programs.elf(file);
  const said = file.bytes < elfHeaderBytes ? "input/output error" : "accessing a corrupted shared library";
  const refused = (why: string) => `which is ${why} (the kernel will say "${said}")`;
  if (!isElf(loader)) {
    if (loader.kind === "unread") return undefined;
    return loader.kind === "truncated" || loader.kind === "unloadable"
      ? `which is damaged: ${loader.found} (it will end with SIGBUS or SIGSEGV)`
      : refused(`no ELF object (${loader.found})`);
  }
  const noProgram = whyNoProgram(loader);
  if (noProgram) return refused(`no loader (${noProgram})`);
  const found = architectureOf(loader);
  return found === architecture ? undefined : refused(`for ${found} and not ${architecture}`);
}
