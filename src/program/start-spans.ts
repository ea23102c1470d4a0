/**
 * The start set: spans of an image that a command needs before its own first instruction and soon after, in the order of need. Fetched side by side
 * before they are asked for, they save a cold start as many round trips.
 *
 * What is in it is found by reading the image as kernel, loader and runtime will: which file the command is, who interprets it, what libraries it
 * loads (start-programs.ts), which parts of them (start-ranges.ts) and which other files a runtime reads (runtimes.ts). It depends on the
 * archive and the command alone. That something is missing makes the set smaller; that bytes could not be had is an error.
 */
import type { Archive } from "../archive/archive.js";
import { byteStringFromText } from "../base/byte-string.js";
import type { FileContent } from "../filesystem/image-filesystem.js";
import { ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { Command } from "./env-command.js";
import { type ImageFile, ProgramImage } from "./program-image.js";
import { ReadAllowance } from "./read-allowance.js";
import { addRuntimeStart, libraryShares, programShares } from "./runtimes.js";
import { spansOfRange } from "./span-ranges.js";
import { type StartFile, StartFiles } from "./start-files.js";
import { type RunProgram, type StartedProgram, startPrograms } from "./start-programs.js";
import { libraryRanges, programRanges } from "./start-ranges.js";

const MiB = 1024 * 1024;
/** Compressed bytes fetched to find out. A start reads some MB of heads and tables; a layer that must be read from its first byte may cost all of this. */
const readBytesMax = 64 * MiB;
/** Uncompressed bytes of a set: what is fetched for nothing is taken from what a start waits for. JVM and Node take 60 MiB. */
const startBytesMax = 128 * MiB;

/** Scripts are read as they run; one with an archive behind it is not read whole. */
const scriptBytesMax = MiB;

export interface StartSpansOptions {
  readonly archive: Archive;
  /** Verified bytes of the archive's files. */
  readonly content: FileContent;
  readonly command: StartCommand;
  /**
   * The same set every time, whatever it takes to find: pieces are read one after the other, and no more than 64 MiB of the registry's bytes.
   * Without it they are read side by side, for somebody who waits.
   */
  readonly reproducible: boolean;
  /** See ProgramImage. */
  readonly willRead?: (file: ImageFile) => void;
  readonly signal?: AbortSignal;
}

/** Text as in an image config or on a command line. */
export interface StartCommand {
  readonly args: readonly string[];
  /** `NAME=value`; PATH among them, or the C library's default is taken. */
  readonly env: readonly string[];
  /** Empty: the root. */
  readonly workingDir: string;
}

export interface StartSet {
  /** Indexes of spans, none twice, in the order of need. */
  readonly spans: readonly number[];
  /** What fetching each of them for itself takes. */
  readonly compressedBytes: number;
  readonly programs: readonly StartedProgram[];
  readonly files: readonly StartFile[];
}

/** Fetches what it needs to know through `content`. Rejects as `content` does, and with `signal.reason`. */
export async function startSpans(options: StartSpansOptions): Promise<StartSet> {
  const { archive, content, willRead, signal } = options;
  const allowance = options.reproducible ? new ReadAllowance(archive, readBytesMax) : undefined;
  const image = new ProgramImage(new ImageFilesystem({ archive, content }), {
    ...(allowance ? { mayRead: (ino, offset, length) => allowance.take(ino, offset, length) } : {}),
    ...(willRead ? { willRead } : {}),
    ...(signal ? { signal } : {}),
  });
  return await findStartSet(archive, image, options.command);
}

/** As startSpans, with an image that somebody else has made of the archive: it says what may be read. */
export async function findStartSet(
  archive: Archive,
  image: ProgramImage,
  command: StartCommand,
): Promise<StartSet> {
  const programs = await startPrograms(image, commandOf(command));
  const files = new StartFiles(image);
  // The accounts are read for every container, before anything is started.
  if (programs.length > 0) for (const path of ["/etc/passwd", "/etc/group"]) files.addPath(path);
  for (const program of programs) await addProgram(image, program, files);
  const listed = files.list();
  const spans = spansOf(archive, listed);
  const compressedBytes = spans.reduce((sum, index) => {
    const { compressedStart, compressedEnd } = archive.span(index);
    return sum + compressedEnd - compressedStart;
  }, 0);
  return { spans, compressedBytes, programs, files: listed };
}

async function addProgram(image: ProgramImage, program: StartedProgram, files: StartFiles): Promise<void> {
  if (program.kind === "script")
    files.add(program.file, [{ start: 0, end: Math.min(program.file.bytes, scriptBytesMax) }]);
  if (program.kind !== "program") return;
  addObjects(program, files);
  await addRuntimeStart(image, program, files);
}

/** The kernel maps program and loader; the loader reads its configuration and maps the libraries. */
function addObjects(program: RunProgram, files: StartFiles): void {
  const { file, object, loader, libraries } = program;
  files.add(file, programRanges(object, file.bytes, programShares(program)));
  if (loader?.file) files.add(loader.file);
  for (const configuration of libraries?.configuration ?? []) files.add(configuration);
  for (const library of libraries?.loaded ?? [])
    files.add(library.file, libraryRanges(library.object, library.file.bytes, libraryShares(library)));
}

function spansOf(archive: Archive, files: readonly StartFile[]): number[] {
  const spans = new Set<number>();
  let bytes = 0;
  for (const { file, ranges } of files) {
    for (const range of ranges) {
      for (const { span } of spansOfRange(archive, file.ino, range)) {
        if (spans.has(span)) continue;
        bytes += archive.span(span).uncompressedLength;
        if (bytes > startBytesMax) return [...spans];
        spans.add(span);
      }
    }
  }
  return [...spans];
}

/** As execve(2) is given it. */
export function commandOf({ args, env, workingDir }: StartCommand): Command {
  return {
    args: args.map(byteStringFromText),
    env: env.map(byteStringFromText),
    directory: byteStringFromText(workingDir.startsWith("/") ? workingDir : `/${workingDir}`),
  };
}
