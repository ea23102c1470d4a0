/** Libraries that a program will miss, and versions of symbols that those it finds do not have. */
import { type ByteString, displayText } from "../base/byte-string.js";
import type { RunProgram } from "../program/start-programs.js";
import { definedVersions, neededVersions } from "../program/symbol-versions.js";
import { ownerText } from "./access.js";
import { type Finding, fail, listText, warn } from "./check.js";
import { libcOf } from "./loaders.js";
import type { Subject } from "./subject.js";

/** Nothing where nobody has looked for them. */
export function libraryProblems(subject: Subject, { path, object, libraries }: RunProgram): Finding[] {
  if (!libraries || !object.interpreter) return [];
  const isMusl = libcOf(object.interpreter) === "musl";
  const shut = libraries.loaded
    .filter(({ file }) => !subject.view.may(file.path, "read"))
    .map(({ name, file }) =>
      fail(
        displayText(path),
        `needs ${displayText(name)}, and ${subject.userText} may not read ${displayText(file.path)} (${ownerText(subject.tree.attributes(file.ino))}; the loader will say "${displayText(name)}: cannot open shared object file")`,
        "make the library readable (chmod a+r) when the image is built",
      ),
    );
  const missing = libraries.missing.map(({ name, neededBy, searched, unfit }) => {
    const shown = displayText(name);
    const by = neededBy === path ? "" : ` (for ${displayText(neededBy)})`;
    const unread = unfit.some(({ found }) => /too much to read/.test(found));
    const others = unfit.map((one) => `${displayText(one.path)}: ${one.found}`);
    const places = listText([...new Set(searched.map((one) => displayText(directoryText(one))))], 6);
    const where = others.length > 0 ? `not usable (${listText(others, 3)})` : `in none of ${places}`;
    const said = isMusl
      ? `Error loading shared library ${shown}`
      : `error while loading shared libraries: ${shown}`;
    const make = unread ? warn : fail;
    return make(
      displayText(path),
      `needs ${shown}${by}, ${where} (the loader will say "${said}")`,
      `install the package that has ${shown}, or name its directory in LD_LIBRARY_PATH (--env)`,
    );
  });
  const unsearched = libraries.unsearched
    ? [
        warn(
          displayText(path),
          `${libraries.unsearched} of its libraries were not looked for: the search paths are too long`,
          "shorten LD_LIBRARY_PATH, or the program's RUNPATH",
        ),
      ]
    : [];
  const told = [...missing.slice(0, findingsMax), ...moreText(path, missing.length)];
  return [...told, ...shut.slice(0, findingsMax), ...unsearched];
}

/** Of one program: who mends these finds the others as well. */
const findingsMax = 20;

function moreText(path: ByteString, count: number): Finding[] {
  if (count <= findingsMax) return [];
  return [
    fail(
      displayText(path),
      `needs ${count - findingsMax} more libraries that are not found`,
      "install the packages that have them",
    ),
  ];
}

function directoryText(path: ByteString): ByteString {
  return (path.slice(0, path.lastIndexOf("/")) || "/") as ByteString;
}

/** A weak library (none of whose versions are there) and musl, which has no versions, are passed over. */
export async function versionProblems(
  subject: Subject,
  { path, file, object, libraries }: RunProgram,
): Promise<Finding[]> {
  if (!libraries || (object.interpreter && libcOf(object.interpreter) === "musl")) return [];
  const objects = [{ name: path, file, object }, ...libraries.loaded];
  const missing = new Map<
    string,
    { library: ByteString; at: ByteString; by: ByteString; versions: ByteString[] }
  >();
  const defined = new Map<ByteString, Awaited<ReturnType<typeof definedVersions>>>();
  for (const user of objects) {
    for (const { library, version } of await neededVersions(subject.programs, user.file, user.object)) {
      const found = libraries.loaded.find(
        (one) => one.name === library || one.object.dynamic?.soname === library,
      );
      if (!found) continue;
      if (!defined.has(library))
        defined.set(library, await definedVersions(subject.programs, found.file, found.object));
      const has = defined.get(library);
      if (!has || has.size === 0 || has.has(version)) continue;
      const key = `${library}\0${user.file.path}`;
      const known = missing.get(key);
      if (known) known.versions.push(version);
      else missing.set(key, { library, at: found.file.path, by: user.file.path, versions: [version] });
    }
  }
  return [...missing.values()].map(({ library, at, by, versions }) => {
    const names = versions.map(displayText);
    const who = by === file.path ? "needs" : `with ${displayText(by)} needs`;
    return fail(
      displayText(path),
      `${who} ${listText(names, 4)} of ${displayText(library)}, and ${displayText(at)} is older (the loader will say "version \`${names[0]}' not found")`,
      "take a build for an older system, a static one, or an image with a newer library",
    );
  });
}
