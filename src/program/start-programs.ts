/**
 * Which programs a command line starts, and why one cannot: the command itself, the interpreters of scripts, what env(1), a shell's -c and
 * the usual wrappers start in turn, each with its loader and libraries.
 */
import type { ByteString } from "../base/byte-string.js";
import { type ElfObject, isElf } from "./elf.js";
import { type Command, envCommand } from "./env-command.js";
import { findCommand, type NoCommand } from "./find-command.js";
import { findLibraries, type Libraries } from "./libraries.js";
import { baseNameOf, type FoundFile, type ImageFile, type ProgramImage } from "./program-image.js";
import { execHeadBytes, readScriptLine, type ScriptLine, scriptDepthMax } from "./script-line.js";
import { firstProgram, shellCommands } from "./shell-words.js";
import { isWrapper, wrappedCommand } from "./wrappers.js";

/** One step of a start. */
export type StartedProgram = {
  readonly command: Command;
  /**
   * How it comes to be started. "command", "interpreter", "env", "wrapped": it is what the kernel, env(1), or a wrapper such as tini starts. "shell" and
   * "argument": what a shell's text, or an entrypoint that ends by running its arguments, most likely starts; that it is missing need not be a fault,
   * and is told only of the one that a shell's text comes to whatever happens.
   */
  readonly role: "command" | "interpreter" | "env" | "wrapped" | "shell" | "argument";
  /** What starts it; undefined for the command. */
  readonly startedBy: ByteString | undefined;
  /** It, or what starts it, is of the last two roles. */
  readonly isGuess: boolean;
} & (
  | ({ readonly kind: "missing" } & Omit<NoCommand, "file">)
  | {
      readonly kind: "script";
      readonly file: ImageFile;
      readonly path: ByteString;
      readonly line: ScriptLine;
    }
  | {
      readonly kind: "unusable";
      readonly file: ImageFile;
      readonly path: ByteString;
      readonly found: string;
      /** What execve(2) gives, or how the process ends at once (ELIBBAD: by its loader); undefined where it is not known: so much may not be read. */
      readonly why: "ENOEXEC" | "ELOOP" | "SIGBUS" | "ELIBBAD" | undefined;
    }
  | {
      readonly kind: "program";
      readonly file: ImageFile;
      readonly path: ByteString;
      readonly object: ElfObject;
      /** Undefined for static programs. */
      readonly loader: FoundFile | undefined;
      /** Undefined where there is no loader, or none was found, or nobody asked for them. */
      readonly libraries: Libraries | undefined;
    }
);

/** A step that runs machine code. */
export type RunProgram = Extract<StartedProgram, { kind: "program" }>;

/** Programs of one start, over all ways. */
const programsMax = 16;
const shells = /^(sh|bash|dash|ash|ksh|zsh|busybox)$/;
/** Programs that run what stands behind their own options, or do something else with it. */
const maybeWrappers = /^(init|setpriv|ionice|exec|chpst|s6-setuidgid|entrypoint|.*[-_]entrypoint)$/;

export interface StartProgramsOptions {
  /** False: libraries are not looked for, which would read the head of each. Default: true. */
  readonly libraries?: boolean;
}

type ToStart = Pick<StartedProgram, "command" | "role" | "isGuess" | "startedBy"> & {
  readonly depth: number;
  /** That it is missing says nothing. */
  readonly mayBeMissing: boolean;
};

/** All that `command` starts, in the order of need. Rejects only as reading the image does. */
export async function startPrograms(
  image: ProgramImage,
  command: Command,
  options: StartProgramsOptions = {},
): Promise<StartedProgram[]> {
  const started: StartedProgram[] = [];
  const pending: ToStart[] = [
    { command, role: "command", startedBy: undefined, isGuess: false, depth: 0, mayBeMissing: false },
  ];
  const seen = new Set<string>();
  for (let next = pending.shift(); next && started.length < programsMax; next = pending.shift()) {
    const key = next.command.args.slice(0, 2).join("\0");
    if (seen.has(key) && next.depth === 0) continue;
    seen.add(key);
    const program = await startProgram(image, next, options);
    if (!program || (next.mayBeMissing && program.kind === "missing")) continue;
    started.push(program);
    pending.push(...followers(program, next.depth));
  }
  return started;
}

async function startProgram(
  image: ProgramImage,
  { command, role, startedBy, isGuess, depth }: ToStart,
  options: StartProgramsOptions,
): Promise<StartedProgram | undefined> {
  const name = command.args[0];
  if (name === undefined) return undefined;
  // The kernel takes an interpreter's name as a path, whatever PATH says.
  const wanted = role === "interpreter" && !name.includes("/") ? (`./${name}` as ByteString) : name;
  const found = findCommand(image, wanted, command);
  const of = { command, role, startedBy, isGuess };
  if (!found.file) return { ...of, kind: "missing", why: found.why, searched: found.searched };
  const { file, path } = found;
  const step = { ...of, file, path };
  const head = await image.read(file, 0, execHeadBytes);
  const unusable = (found: string, why: "ENOEXEC" | "ELOOP" | "SIGBUS" | "ELIBBAD" | undefined) =>
    ({ ...step, kind: "unusable", found, why }) as const;
  if (!head) return unusable("it would take too much to read", undefined);
  const line = readScriptLine(head);
  if (line === "refused") return unusable("its first line names no interpreter", "ENOEXEC");
  if (line && depth >= scriptDepthMax)
    return unusable(`more than ${scriptDepthMax} scripts interpret each other`, "ELOOP");
  if (line) return { ...step, kind: "script", line };
  const object = await image.elf(file);
  if (!isElf(object)) return unusable(object.found, refusals[object.kind]);
  const noProgram = whyNoProgram(object);
  if (noProgram) return unusable(noProgram, "ENOEXEC");
  const { interpreter } = object;
  if (interpreter === undefined)
    return { ...step, kind: "program", object, loader: undefined, libraries: undefined };
  const loader = image.find(interpreter || here, command.directory);
  if (!loader.file || options.libraries === false)
    return { ...step, kind: "program", object, loader, libraries: undefined };
  const libraries = await findLibraries(image, { file, object, loader: loader.file, interpreter, command });
  return { ...step, kind: "program", object, loader, libraries };
}

/** An empty name is that of the directory, for the kernel. */
const here = "." as ByteString;
const refusals = {
  other: "ENOEXEC",
  damaged: "ENOEXEC",
  truncated: "SIGBUS",
  unloadable: "ELIBBAD",
  unread: undefined,
} as const;
const elfTypes: Readonly<Record<number, string>> = {
  1: "it is an object file, which has not been linked",
  4: "it is a core dump",
};

/** Of an ELF object: why the kernel (load_elf_binary) neither starts it nor takes it for an interpreter. */
export function whyNoProgram({ type, segments }: ElfObject): string | undefined {
  if (type !== 2 && type !== 3)
    return elfTypes[type] ?? `its ELF type is ${type}, neither program nor library`;
  return segments.length === 0 ? "it has no segments to be loaded" : undefined;
}

/** What is started by what was started. */
function followers(program: StartedProgram, depth: number): ToStart[] {
  if (program.kind !== "script" && program.kind !== "program") return [];
  const { command, path } = program;
  const after = (role: StartedProgram["role"], args: readonly ByteString[], nextDepth = 0): ToStart => ({
    command: { ...command, args },
    role,
    startedBy: path,
    isGuess: program.isGuess || role === "shell" || role === "argument",
    depth: nextDepth,
    mayBeMissing: role === "argument",
  });
  if (program.kind === "script") {
    const { interpreter, argument } = program.line;
    const args = [interpreter, ...(argument === undefined ? [] : [argument]), program.path];
    const interpreted = [after("interpreter", [...args, ...command.args.slice(1)], depth + 1)];
    // `exec "$@"`: what most entrypoints of images end with.
    return shells.test(baseNameOf(interpreter)) || isEnvOfShell(program.line)
      ? [...interpreted, ...wrapped(command.args).map((rest) => after("argument", rest))]
      : interpreted;
  }
  const names = [baseNameOf(path), baseNameOf(command.args[0]!)];
  if (names.includes("env" as ByteString)) {
    const run = envCommand({ ...command, args: command.args.slice(1) });
    return run ? [{ ...after("env", []), command: run }] : [];
  }
  if (names.some((name) => shells.test(name))) {
    const text = shellText(command.args);
    if (text === undefined) return [];
    const first = firstProgram(text)?.join("\0");
    return shellCommands(text).map((words) => ({
      ...after("shell", words),
      mayBeMissing: words.join("\0") !== first,
    }));
  }
  const rest = names.map((name) => wrappedCommand(name, command.args)).find(Boolean);
  if (rest) return [after("wrapped", rest)];
  return names.some((name) => maybeWrappers.test(name) || isWrapper(name))
    ? wrapped(command.args).map((words) => after("argument", words))
    : [];
}

function isEnvOfShell({ interpreter, argument }: ScriptLine): boolean {
  return (
    baseNameOf(interpreter) === "env" && shells.test(argument?.replace(/^-S\s*/, "").split(" ")[0] ?? "")
  );
}

/** The text of `sh -c TEXT`, options in front of it among them (`-ec`, `-l -c`). */
function shellText(args: readonly ByteString[]): ByteString | undefined {
  const option = args.findIndex((arg, i) => i > 0 && /^-[A-Za-z]*c[A-Za-z]*$/.test(arg));
  return option > 0 && args.slice(1, option).every((arg) => /^[-+]/.test(arg)) ? args[option + 1] : undefined;
}

/** What stands behind a wrapper's own options; the user of gosu and the number of timeout are tried as programs too, and are none. */
function wrapped(args: readonly ByteString[]): (readonly ByteString[])[] {
  const separator = args.indexOf("--" as ByteString);
  if (separator > 0) return [args.slice(separator + 1)];
  const first = args.findIndex((arg, i) => i > 0 && !arg.startsWith("-"));
  return first < 0 ? [] : [args.slice(first), args.slice(first + 1)].filter((rest) => rest.length > 0);
}
