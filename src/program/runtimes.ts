/**
 * What the runtimes of languages read besides their own libraries before they come to the program. Which runtime a program is, its name and its libraries
 * tell, never the name of an image. Each rule is what strace and the touched spans of a real start showed, and says of which version.
 */
import { type ByteString, byteStringFromText } from "../base/byte-string.js";
import { addJavaStart } from "./java-start.js";
import type { LoadedLibrary } from "./libraries.js";
import { addNodeStart } from "./node-start.js";
import { baseNameOf, type ProgramImage } from "./program-image.js";
import { addPythonStart } from "./python-start.js";
import type { StartFiles } from "./start-files.js";
import type { RunProgram } from "./start-programs.js";
import type { SegmentShares } from "./start-ranges.js";

interface Runtime {
  readonly is: (program: RunProgram) => boolean;
  readonly addStart: (image: ProgramImage, program: RunProgram, files: StartFiles) => Promise<void> | void;
}

const needs = (program: RunProgram, library: RegExp) =>
  program.object.dynamic?.needed.some((name) => library.test(name)) ?? false;

const runtimes: readonly Runtime[] = [
  {
    is: (program) =>
      needs(program, /^libpython3\./) || /^python(3(\.\d+)?)?$/.test(baseNameOf(program.file.path)),
    addStart: addPythonStart,
  },
  { is: (program) => needs(program, /^libnode\.so/) || isNode(program), addStart: addNodeStart },
  { is: (program) => needs(program, /^libjli\.so/), addStart: addJavaStart },
];

export async function addRuntimeStart(
  image: ProgramImage,
  program: RunProgram,
  files: StartFiles,
): Promise<void> {
  await runtimes.find(({ is }) => is(program))?.addStart(image, program, files);
}

/** How much of a large program a start reads beyond what every program does; measured with `-e 0` as told in start-ranges.ts. */
export function programShares(program: RunProgram): SegmentShares {
  // V8's code and Node's built-in modules with their snapshot, which are at the front of the constants; the rest is ICU's.
  return isNode(program) ? { code: 0.85, constants: 0.28, unwinding: true } : {};
}

export function libraryShares({ name }: LoadedLibrary): SegmentShares {
  return name.startsWith("libnode.so") ? { code: 0.56, constants: 0.72 } : {};
}

/** Node with all that it needs in it, and not a script or a small program of that name. */
function isNode({ file, object }: RunProgram): boolean {
  const libraries = object.dynamic?.needed ?? [];
  return (
    /^node(js)?$/.test(baseNameOf(file.path)) &&
    libraries.includes(byteStringFromText("libstdc++.so.6") as ByteString)
  );
}
