/** What CPython reads before the first line of a program: `strace python3 -c pass` of 3.11 (Debian 12), and PEP 405 and 538. */
import { type ByteString, byteStringOf } from "../base/byte-string.js";
import { baseNameOf, directoryOf, joined, type ProgramImage } from "./program-image.js";
import type { StartFiles } from "./start-files.js";
import type { RunProgram } from "./start-programs.js";

/** Read from files by every version: what is needed to find modules is frozen in the binary, encodings are not. */
const encodings = ["encodings/__init__", "encodings/aliases", "encodings/utf_8"];
/** Frozen since 3.11 ("What's New In Python 3.11": modules essential at startup). */
const frozenSince11 = [
  "codecs",
  "io",
  "abc",
  "site",
  "os",
  "stat",
  "_collections_abc",
  "posixpath",
  "genericpath",
  "_sitebuiltins",
];
const pathFilesMax = 64;
const configurationBytesMax = 16 * 1024;

export async function addPythonStart(
  image: ProgramImage,
  program: RunProgram,
  files: StartFiles,
): Promise<void> {
  const minor = minorVersion(program);
  if (minor === undefined) return;
  const invoked = directoryOf(directoryOf(program.path));
  // pyvenv.cfg is looked for beside the program and one up; where it is not, the program's own place counts, symlinks followed.
  const environment = image.find(joined(invoked, "pyvenv.cfg" as ByteString)).file;
  if (environment) files.add(environment);
  const prefixes = [directoryOf(directoryOf(program.file.path)), "/usr/local", "/usr"];
  const library = prefixes
    .map((prefix) => `${prefix}/lib/python3.${minor}`)
    .find((directory) => image.find(`${directory}/os.py` as ByteString).file);
  // The C locale is taken for C.UTF-8 (PEP 538), whose tables glibc has in a file of 346 KiB.
  files.addPath("/usr/lib/locale/C.utf8/LC_CTYPE");
  const libc = program.libraries?.loaded.find(({ name }) => name === "libc.so.6");
  if (libc) files.addPath(`${directoryOf(libc.file.path)}/gconv/gconv-modules.cache`);
  files.addPath("/etc/localtime");
  if (library === undefined) return;
  for (const module of [...encodings, ...(minor < 11 ? frozenSince11 : [])])
    addModule(library, module, minor, files);
  const sites = [
    `/usr/local/lib/python3.${minor}/dist-packages`,
    "/usr/lib/python3/dist-packages",
    `${environment ? invoked : directoryOf(directoryOf(library as ByteString))}/lib/python3.${minor}/site-packages`,
  ];
  for (const site of sites) {
    const names = image.names(site as ByteString).filter((name) => name.endsWith(".pth"));
    for (const name of names.slice(0, pathFilesMax)) await addPathFile(image, site, name, minor, files);
  }
  addModule(library, "sitecustomize", minor, files);
  const script = scriptOf(program.command.args);
  if (script === undefined) return;
  const path = joined(program.command.directory, script);
  if (!files.addPath(path)) files.addPath(`${path}/__main__.py`);
}

/** Of the program's own name, or of libpython: a real `python3` says only that. */
function minorVersion({ file, libraries }: RunProgram): number | undefined {
  const names = [baseNameOf(file.path), ...(libraries?.loaded.map(({ name }) => name) ?? [])];
  const found = names.flatMap((name) => /^(?:lib)?python3\.(\d{1,3})/.exec(name)?.[1] ?? [])[0];
  return found === undefined ? undefined : Number(found);
}

/** The compiled module where there is one: Python looks at its source's attributes only. */
function addModule(library: string, module: string, minor: number, files: StartFiles): void {
  const slash = module.lastIndexOf("/") + 1;
  const compiled = `${module.slice(0, slash)}__pycache__/${module.slice(slash)}.cpython-3${minor}.pyc`;
  if (!files.addPath(`${library}/${compiled}`)) files.addPath(`${library}/${module}.py`);
}

/** A .pth file, and the packages that its `import` lines run at every start. */
async function addPathFile(
  image: ProgramImage,
  site: string,
  name: ByteString,
  minor: number,
  files: StartFiles,
): Promise<void> {
  const file = files.addPath(`${site}/${name}`);
  const text = file && (await image.readSmall(file, configurationBytesMax));
  for (const line of text ? byteStringOf(text).split("\n") : []) {
    if (!/^import[ \t]/.test(line)) continue;
    for (const [, module] of line.matchAll(/(?:^import[ \t]+|__import__\(')([A-Za-z_]\w*)/g)) {
      addModule(site, module!, minor, files);
      addModule(site, `${module}/__init__`, minor, files);
    }
  }
}

/** The first argument that is no option; none behind -c and -m. */
function scriptOf(args: readonly ByteString[]): ByteString | undefined {
  for (let at = 1; at < args.length; at++) {
    const arg = args[at]!;
    if (!arg.startsWith("-")) return arg;
    if (/^-[A-Za-z]*[cm]/.test(arg) || arg === "-") return undefined;
    if (arg === "-W" || arg === "-X") at++;
  }
  return undefined;
}
