/** ELF programs among the files that are mounted into a container: each will be started by somebody, and none knows what the image has. */
import { type ByteString, byteStringFromText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { isElf } from "../program/elf.js";
import { findLibraries } from "../program/libraries.js";
import type { ImageFile } from "../program/program-image.js";
import { type RunProgram, whyNoProgram } from "../program/start-programs.js";
import type { Subject } from "./subject.js";

/** A directory of tools has some; a mounted root directory of a host must not be gone through. */
const entriesMax = 5000;
const programsMax = 64;

const found = new WeakMap<Subject, Promise<RunProgram[]>>();

/** In the order of the options, directories gone through. Libraries are looked for with --deps. */
export function injectedPrograms(subject: Subject): Promise<RunProgram[]> {
  const known = found.get(subject);
  if (known) return known;
  const programs = findPrograms(subject);
  found.set(subject, programs);
  return programs;
}

async function findPrograms(subject: Subject): Promise<RunProgram[]> {
  const programs: RunProgram[] = [];
  const pending = (subject.start.injected ?? []).map(({ path }) => byteStringFromText(path));
  let entries = 0;
  for (let path = pending.shift(); path !== undefined; path = pending.shift()) {
    if (++entries > entriesMax || programs.length >= programsMax) break;
    const entry = subject.tree.entryAt(path);
    const type = entry && entry.mode & fileTypeMask;
    if (type === fileTypes.directory)
      for (const name of namesIn(subject, entry!.ino)) pending.push(`${path}/${name}` as ByteString);
    // Symlinks lead to what is looked at under its own name.
    const { file } = type === fileTypes.file ? subject.programs.find(path) : { file: undefined };
    const program = file?.executable ? await programAt(subject, path, file) : undefined;
    if (program) programs.push(program);
  }
  return programs;
}

function namesIn(subject: Subject, ino: number): ByteString[] {
  try {
    return Array.from(subject.tree.readDirectory(ino), ({ name }) => name).slice(0, entriesMax);
  } catch (error) {
    if (error instanceof ErrnoError) return [];
    throw error;
  }
}

async function programAt(
  subject: Subject,
  path: ByteString,
  file: ImageFile,
): Promise<RunProgram | undefined> {
  const object = await subject.programs.elf(file);
  // A library with execute bits (Debian's have none, others' do) has no interpreter.
  if (!isElf(object) || whyNoProgram(object)) return undefined;
  if (object.type !== 2 && object.interpreter === undefined) return undefined;
  const { interpreter } = object;
  const command = subject.commandOf([path]);
  const loader = interpreter === undefined ? undefined : subject.programs.find(interpreter);
  const libraries =
    subject.start.deps && loader?.file && interpreter !== undefined
      ? await findLibraries(subject.programs, { file, object, loader: loader.file, interpreter, command })
      : undefined;
  const of = { command, role: "command", startedBy: undefined, isGuess: false } as const;
  return { ...of, kind: "program", file, path, object, loader, libraries };
}
