/** Whether the image's command can be started: found, executable, of a format that the kernel knows, with its interpreters and libraries. */
import { type ByteString, displayText } from "../base/byte-string.js";
import type { RunProgram, StartedProgram } from "../program/start-programs.js";
import { type Check, type Finding, fail, ok } from "./check.js";
import { injectedPrograms } from "./injected-programs.js";
import { libraryProblems, versionProblems } from "./library-problems.js";
import { libcOf } from "./loaders.js";
import { runtimeSearchProblem } from "./runtime-search.js";
import { type ProblemKind, programProblem, startProblems } from "./start-problems.js";
import type { Subject } from "./subject.js";

export const programChecks: readonly Check[] = [
  {
    id: "entrypoint",
    asks: "is the command there: named at all, found along PATH and symlinks, a regular file",
    fix: "name a command that the image has, with its path or with the right PATH",
    run: entrypoint,
  },
  {
    id: "executable",
    asks: "may the image's user execute it, by the mode bits of the file and of the directories on the way",
    fix: "set execute permission when the image is built (COPY --chmod=755), or start as another user",
    run: executable,
  },
  {
    id: "format",
    asks: "does the kernel know what kind of file it is",
    fix: "begin scripts with #! and an interpreter",
    run: async (subject) => await problemsOf(subject, "format"),
  },
  {
    id: "script",
    asks: "are the interpreters of scripts there, and their first lines as the kernel reads them",
    fix: "install the interpreter, or name one that is there; convert CRLF to LF",
    run: scripts,
  },
  {
    id: "env",
    asks: "is what env(1) is to start found along PATH",
    fix: "install it, or set PATH",
    run: async (subject) => await startedInTurn(subject, "env"),
  },
  {
    id: "wrapped",
    asks: "is what tini and other wrappers, or the text of sh -c, are to start found along PATH",
    fix: "install it, or set PATH",
    run: async (subject) => await startedInTurn(subject, "wrapped"),
  },
  {
    id: "interp",
    asks: "is the ELF interpreter (dynamic loader) of each program there, those of injected files included",
    fix: "take a build for the image's C library, a static one, or an image with the library it needs",
    run: interpreters,
  },
  {
    id: "libraries",
    asks: "are all libraries found that the programs need, and those need in turn (--deps)",
    fix: "install the packages that have them, or set LD_LIBRARY_PATH",
    run: libraries,
  },
  {
    id: "symbol-versions",
    asks: "do the libraries have the versions of symbols that the programs were built against (--deps)",
    fix: "take a build for an older system, or an image with a newer C library",
    run: symbolVersions,
  },
];

const problems = new WeakMap<Subject, ReturnType<typeof startProblems>>();

/** Those of one kind, of what the image's command starts. */
export async function problemsOf(subject: Subject, kind: ProblemKind): Promise<Finding[]> {
  let found = problems.get(subject);
  if (!found) {
    found = subject.started().then((steps) => startProblems(subject, steps));
    problems.set(subject, found);
  }
  return (await found).filter((problem) => problem.kind === kind).map(({ kind: _, ...finding }) => finding);
}

async function entrypoint(subject: Subject): Promise<Finding[]> {
  if (!subject.command)
    return [
      fail(
        "the image's config",
        "the image has no command, neither Entrypoint nor Cmd, and none was given",
        "give one behind -- or with --entrypoint",
      ),
    ];
  const found = await problemsOf(subject, "entrypoint");
  if (found.length > 0) return found;
  const [first] = await subject.started();
  if (!first || first.kind === "missing") return [];
  const refused = runtimeSearchProblem(subject);
  if (refused?.kind === "entrypoint") return [refused.finding];
  const name = subject.command.args[0]!;
  return [ok(placeText(name, first), displayText(first.path))];
}

function placeText(name: ByteString, { file, path }: Exclude<StartedProgram, { kind: "missing" }>): string {
  const found = name.includes("/") ? "there" : `${displayText(name)} is found there along PATH`;
  return file.path === path ? found : `${found}, a way to ${displayText(file.path)}`;
}

async function executable(subject: Subject): Promise<Finding[]> {
  const found = await problemsOf(subject, "executable");
  if (found.length > 0) return found;
  const [first] = await subject.started();
  const other = runtimeSearchProblem(subject);
  if (first?.kind !== "missing" && other?.kind === "executable") return [other.finding];
  return first && first.kind !== "missing"
    ? [ok(`${subject.userText} may execute it`, displayText(first.path))]
    : [];
}

async function scripts(subject: Subject): Promise<Finding[]> {
  const found = await problemsOf(subject, "script");
  if (found.length > 0) return found;
  return (await subject.started()).flatMap((step) =>
    step.kind === "script"
      ? [ok(`a script of ${displayText(step.line.interpreter)}`, displayText(step.path))]
      : [],
  );
}

/** What another program than the kernel is to start. */
async function startedInTurn(subject: Subject, role: "env" | "wrapped"): Promise<Finding[]> {
  const found = await problemsOf(subject, role);
  if (found.length > 0) return found;
  const steps = (await subject.started()).filter((step) => step.role === role);
  return steps.flatMap((step) => {
    if (step.kind === "missing") return [];
    const starter = displayText(step.startedBy!);
    return [ok(`${starter} finds it for ${displayText(step.command.args[0]!)}`, displayText(step.path))];
  });
}

async function interpreters(subject: Subject): Promise<Finding[]> {
  const found = await problemsOf(subject, "interp");
  const good: Finding[] = (await subject.started()).flatMap((step) =>
    step.kind === "program" && (step.object.interpreter === undefined || step.loader?.file)
      ? [ok(interpreterText(step), displayText(step.path))]
      : [],
  );
  for (const injected of await injectedPrograms(subject)) {
    const problem = await programProblem(subject, injected);
    if (!problem) good.push(ok(interpreterText(injected), displayText(injected.path)));
    else {
      const { kind: _, ...finding } = problem;
      found.push(finding);
    }
  }
  return found.length > 0 ? unique(found) : unique(good);
}

/** `glibc's /lib64/ld-linux-x86-64.so.2`, `static` */
function interpreterText({ object }: Pick<RunProgram, "object">): string {
  const { interpreter } = object;
  if (interpreter === undefined) return "static, it needs no interpreter";
  const libc = libcOf(interpreter);
  return `needs ${libc === "unknown" ? "" : `${libc}'s `}${displayText(interpreter)}, which is there`;
}

async function libraries(subject: Subject): Promise<Finding[]> {
  return await overPrograms(subject, libraryProblems, ({ libraries: found }) =>
    found ? `all ${found.loaded.length} libraries are there` : undefined,
  );
}

async function symbolVersions(subject: Subject): Promise<Finding[]> {
  return await overPrograms(subject, versionProblems, ({ libraries: found }) =>
    found && found.missing.length === 0 ? "its libraries have all versions of symbols it needs" : undefined,
  );
}

/** Problems of all programs, or what is good about each; nothing without --deps. */
async function overPrograms(
  subject: Subject,
  problemsIn: (subject: Subject, program: RunProgram) => Promise<Finding[]> | Finding[],
  good: (program: RunProgram) => string | undefined,
): Promise<Finding[]> {
  if (!subject.start.deps) return [];
  const started = (await subject.started()).filter((step): step is RunProgram => step.kind === "program");
  const programs = [...started, ...(await injectedPrograms(subject))];
  const bad: Finding[] = [];
  const fine: Finding[] = [];
  for (const program of programs) {
    const found = await problemsIn(subject, program);
    bad.push(...found.map((one): Finding => (program.isGuess ? { ...one, status: "warn" } : one)));
    const text = found.length === 0 ? good(program) : undefined;
    if (text) fine.push(ok(text, displayText(program.path)));
  }
  return bad.length > 0 ? unique(bad) : unique(fine);
}

/** One program may be started by several. */
function unique(findings: readonly Finding[]): Finding[] {
  const seen = new Map(findings.map((finding) => [`${finding.path}\0${finding.detail}`, finding]));
  return [...seen.values()];
}
