/** What Node.js reads before the first line of a program: `strace node -e 0` of 18 (Debian 12) and 20 (nodejs.org's binary). */
import type { ByteString } from "../base/byte-string.js";
import { directoryOf, joined, type ProgramImage } from "./program-image.js";
import type { StartFiles } from "./start-files.js";
import type { RunProgram } from "./start-programs.js";

/** Options whose value is the next argument, and those behind which there is no script. */
const valued = new Set([
  "-r",
  "--require",
  "--import",
  "--loader",
  "--experimental-loader",
  "-C",
  "--conditions",
  "--env-file",
]);
const withoutScript = new Set(["-e", "--eval", "-p", "--print", "-pe", "-i", "-"]);
const directoriesMax = 64;
/** Debian builds Node without these built-in modules and reads them from files at every start (configure --shared-builtin-*). */
const sharedBuiltins = [
  "cjs-module-lexer/dist/lexer.js",
  "cjs-module-lexer/lexer.js",
  "undici/undici-fetch.js",
  "acorn/dist/acorn.js",
  "acorn-walk/dist/walk.js",
];

export function addNodeStart(image: ProgramImage, program: RunProgram, files: StartFiles): void {
  // OpenSSL is set up at every start. The first is OPENSSLDIR of nodejs.org's binaries, the second Debian's.
  files.addPath("/etc/ssl/openssl.cnf");
  files.addPath("/usr/lib/ssl/openssl.cnf");
  if (program.object.dynamic?.needed.some((name) => name.startsWith("libnode.so")))
    for (const module of sharedBuiltins) files.addPath(`/usr/share/nodejs/${module}`);
  const script = scriptOf(program.command.args);
  if (script === undefined) return;
  const path = joined(program.command.directory, script);
  const found = ["", ".js", ".mjs", ".cjs", "/index.js"].map(
    (end) => image.find(`${path}${end}` as ByteString).file,
  );
  const file = found.find((one) => one !== undefined);
  if (!file) return;
  // The nearest package.json says whether the script is a module.
  let directory = directoryOf(file.path);
  for (let level = 0; level < directoriesMax; level++) {
    if (files.addPath(`${directory}/package.json`) || directory === "/") break;
    directory = directoryOf(directory);
  }
  files.add(file);
}

function scriptOf(args: readonly ByteString[]): ByteString | undefined {
  for (let at = 1; at < args.length; at++) {
    const arg = args[at]!;
    if (withoutScript.has(arg)) return undefined;
    if (valued.has(arg)) at++;
    else if (!arg.startsWith("-")) return arg;
  }
  return undefined;
}
