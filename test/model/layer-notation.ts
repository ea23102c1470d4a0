/**
 * Stacks in one line, as test/tree/notation.ts has them ("x/a x/b/ ; x/new l→x h=x/a"), with what else a member can have: how its layer
 * is stored, and in braces all that is not as usual.
 *
 *   gzip: a(3) b/{0700 5:6 @-1.5 user.a="x"} ; zstd: p(fifo) d(block 8:1) s(4096+512 8192+1 of 9000, pax 1.0)
 *
 * A number in parentheses is a file's size; of a sparse file offset and length of its pieces. Long runs of a character are written as n{255}.
 */
import type { RandomEntry, RandomLayer } from "./random-layers.js";

export function notationOf(layers: readonly RandomLayer[]): string {
  if (layers.length === 0) return "(no layers)";
  return layers
    .map(({ storedAs, entries }) => [`${storedAs}:`, ...entries.map(wordOf)].join(" "))
    .join(" ; ");
}

function wordOf(entry: RandomEntry): string {
  const traits = traitsOf(entry).join(" ");
  return shown(entry.path) + kindOf(entry) + (traits ? `{${traits}}` : "");
}

function kindOf({ path, type, target, major, minor, size, pieces, sparseFormat }: RandomEntry): string {
  switch (type) {
    case "symlink":
      return `→${shown(target)}`;
    case "hardlink":
      return `=${shown(target)}`;
    case "directory":
      return path.endsWith("/") ? "" : "(directory)";
    case "file": {
      if (sparseFormat === undefined) return path.includes(".wh.") && size === 0 ? "" : `(${size})`;
      const map = pieces.map(({ offset, bytes }) => `${offset}+${bytes.length}`).join(" ");
      return `(${map} of ${size}, ${sparseFormat})`;
    }
    case "fifo":
      return "(fifo)";
    default:
      return `(${type} ${major}:${minor})`;
  }
}

function traitsOf({ mode, uid, gid, mtimeSec, mtimeNsec, xattrs, format }: RandomEntry): string[] {
  return [
    ...(mode === 0o755 ? [] : [`0${mode.toString(8)}`]),
    ...(uid === 0 && gid === 0 ? [] : [`${uid}:${gid}`]),
    ...(mtimeSec === 1_700_000_000 && mtimeNsec === 0 ? [] : [`@${mtimeSec}+${mtimeNsec}ns`]),
    ...xattrs.map(([name, value]) => `${shown(name)}=${short(JSON.stringify(value))}`),
    ...(format === "gnu" ? ["gnu"] : []),
  ];
}

function shown(name: string): string {
  return short(/^[\w./-]+$/.test(name) ? name : JSON.stringify(name));
}

function short(text: string): string {
  return text
    .replace(/(.)\1{30,}/g, (run, character) => `${character}{${run.length}}`)
    .replace(/(?:\.\/){9,}/g, "./…");
}
