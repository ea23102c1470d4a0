/**
 * Random stacks of random layers, as members of tars. A stack that a test fails with is printed in the notation of layer-notation.ts, after
 * fast-check has taken out of it what it could.
 */
import fc from "fast-check";
import { type Draft, randomDraft, type SparseFormat, type StackKind } from "./layer-drafts.js";
import { notationOf } from "./layer-notation.js";
import type { ModelEntry } from "./reference-model.js";

/** How a layer's tar is stored. "members" are several of gzip, an empty one among them. */
export type StoredAs = "gzip" | "plain" | "members" | "zstd";

export interface RandomEntry extends ModelEntry {
  /** Of the header. */
  readonly format: "ustar" | "gnu";
  /** How holes are told; undefined for a file that is stored with its zeros, and for all else. */
  readonly sparseFormat: SparseFormat | undefined;
}

export interface RandomLayer {
  readonly entries: readonly RandomEntry[];
  readonly storedAs: StoredAs;
}

export interface RandomStack {
  readonly layers: readonly RandomLayer[];
}

/** From what is cheap and easy to look at, which a failure shrinks to, to what starts a process. */
const storedAs = fc.constantFrom<StoredAs[]>(
  ...(["plain", "plain", "plain", "gzip", "gzip", "gzip", "gzip", "members", "members", "zstd"] as const),
);

/** Up to five layers of up to nine drafts; now and then one is the layer below it again. */
export function randomStack(kind: StackKind): fc.Arbitrary<RandomStack> {
  const drafts = fc.array(randomDraft(kind), { maxLength: 9, size: "max" });
  const layer = fc.record({
    storedAs,
    drafts,
    again: fc.oneof(
      { weight: 20, arbitrary: fc.constant(false) },
      { weight: 1, arbitrary: fc.constant(true) },
    ),
  });
  // Without fast-check's bias for small values, which half of all stacks would be made of.
  const layers = fc.noBias(fc.array(layer, { minLength: 1, maxLength: 5, size: "max" }));
  const none = fc.constant([]);
  return fc.oneof({ weight: 60, arbitrary: layers }, none).map((layerDrafts) => {
    const stack = new Stack();
    const layers: RandomLayer[] = [];
    for (const { storedAs, drafts, again } of layerDrafts) {
      const below = layers.at(-1);
      layers.push(again && below ? below : { storedAs, entries: stack.layerOf(drafts) });
    }
    return { layers, [fc.toStringMethod]: () => notationOf(layers) };
  });
}

/** A path that drafts can pick: as it stands in a layer, whatever links are on its way. */
interface Known {
  readonly path: string;
  readonly type: ModelEntry["type"];
  /** Of a symlink: where it leads by its text. */
  readonly leadsTo: string | undefined;
}

/** Makes members of drafts, layer after layer. */
class Stack {
  /** Of the layers below, without what they hid again as far as paths show it. */
  #known: Known[] = [];
  /** What the layer hides. */
  #hidden: string[] = [];
  #contents = 0;

  layerOf(drafts: readonly Draft[]): RandomEntry[] {
    const own: Known[] = [];
    const placed = drafts.map((draft) => {
      const there = [...this.#known, ...own];
      const parts = placeOf(draft, there);
      const type = typeOf(draft);
      const path = parts.join("/");
      if (draft.kind !== "symlink") {
        if (type) own.push({ path, type, leadsTo: undefined });
        return { ...draft, parts };
      }
      const target = symlinkTarget({ ...draft, parts }, there);
      own.push({ path, type: "symlink", leadsTo: folded(parts, target) });
      return { ...draft, parts, target: [target] };
    });
    const entries = placed.flatMap((draft) => this.#entriesOf(draft, own));
    const hidden = ({ path }: Known) => this.#hidden.some((gone) => `${path}/`.startsWith(gone));
    this.#known = [...this.#known.filter((known) => !hidden(known)), ...own];
    this.#hidden = [];
    return entries;
  }

  #entriesOf(draft: Draft, own: readonly Known[]): RandomEntry[] {
    const { parts } = draft;
    const parent = parts.slice(0, -1);
    const name = parts.at(-1)!;
    switch (draft.kind) {
      case "file":
        return [this.#entry(draft, "file", parts, this.#content(draft.bytes))];
      case "sparse":
        return [this.#entry(draft, "file", parts, this.#sparseContent(draft))];
      case "directory":
        return [this.#entry(draft, "directory", draft.slash ? [...parts, ""] : parts)];
      case "device":
        return [this.#entry(draft, draft.type, parts, { major: draft.major, minor: draft.minor })];
      case "symlink":
        return [this.#entry(draft, "symlink", parts, { target: draft.target.join("/") })];
      case "hardlink":
        return [this.#entry(draft, "hardlink", parts, { target: this.#linkTarget(draft, own) })];
      case "whiteout": {
        const hidden = this.#hiddenBy(draft).split("/");
        this.#hidden.push(`${hidden.join("/")}/`);
        const path = [...hidden.slice(0, -1), `.wh.${hidden.at(-1)}`];
        // Whatever such a link points at, it is a marker.
        return [
          this.#entry(draft, draft.asLink ? "hardlink" : "file", path, { target: draft.asLink ? "a" : "" }),
        ];
      }
      case "opaque": {
        const prefix = this.#emptiedBy(draft);
        this.#hidden.push(prefix);
        return [this.#entry(draft, "file", [`${prefix}.wh..wh..opq`])];
      }
      case "root":
        return [this.#entry(draft, draft.wrong ? "fifo" : "directory", ["."])];
      case "aufs": {
        const own = [...parent, ".wh..wh.plnk", name];
        const file = this.#entry(draft, "file", own, this.#content(draft.bytes));
        const link = this.#entry(draft, "hardlink", parts, { target: own.join("/") });
        return draft.linkFirst ? [link, file] : [file, link];
      }
      case "false marker": {
        const path = [...parent, draft.opaque ? ".wh..wh..opq" : `.wh.${name.slice(0, 251)}`];
        return [this.#entry(draft, draft.type, path, { target: draft.type === "symlink" ? "a" : "" })];
      }
      case "refused":
        return [this.#entry(draft, "file", [...parent, draft.name])];
    }
  }

  #entry(
    { attributes, format, spelling }: Draft,
    type: ModelEntry["type"],
    parts: readonly string[],
    rest: Partial<RandomEntry> = {},
  ): RandomEntry {
    return {
      ...{ type, target: "", major: 0, minor: 0, size: 0, pieces: [], sparseFormat: undefined, format },
      ...attributes,
      path: spelling + parts.join("/"),
      // The old GNU header has no place for them.
      mtimeNsec: format === "gnu" ? 0 : attributes.mtimeNsec,
      ...rest,
    };
  }

  #content(size: number): Partial<RandomEntry> {
    return { size, pieces: size > 0 ? [{ offset: 0, bytes: this.#bytes(size) }] : [] };
  }

  #sparseContent({ pieces, tail, sparseFormat }: Draft & { readonly kind: "sparse" }): Partial<RandomEntry> {
    let end = 0;
    const placed = pieces.map(({ gap, length }) => {
      const piece = { offset: end + gap, bytes: this.#bytes(length) };
      end = piece.offset + length;
      return piece;
    });
    const format =
      sparseFormat === "old GNU" ? { format: "gnu" as const, mtimeNsec: 0 } : { format: "ustar" as const };
    return { ...format, size: end + tail, pieces: placed, sparseFormat };
  }

  /** Different from all others of the stack. */
  #bytes(length: number): Buffer {
    return Buffer.alloc(length, `${++this.#contents}.`);
  }

  /** Mostly something that can be linked, before or behind the link. */
  #linkTarget(
    { parts, target, pick, astray }: Draft & { readonly kind: "hardlink" },
    own: readonly Known[],
  ): string {
    const all = [...this.#known, ...own];
    const isFile = ({ path }: Known) =>
      all.every(({ path: other, type }) => {
        if (other === path) return type !== "directory";
        const isAbove = path.startsWith(`${other}/`);
        return isAbove ? type === "directory" || type === "symlink" : !other.startsWith(`${path}/`);
      });
    const files = all.filter((known) => known.path !== parts.join("/") && isFile(known));
    return astray || files.length === 0 ? target.join("/") : files[pick % files.length]!.path;
  }

  #hiddenBy({ parts, pick, of }: Draft & { readonly kind: "whiteout" }): string {
    const known = this.#known[pick % this.#known.length];
    if (of === "any" || !known) return parts.join("/");
    if (of === "known") return known.path;
    const throughLinks = this.#known.flatMap(({ path: link, leadsTo }) =>
      leadsTo === undefined
        ? []
        : this.#known.flatMap(({ path }) =>
            dirnameOf(path) === leadsTo ? [`${link}/${path.slice(path.lastIndexOf("/") + 1)}`] : [],
          ),
    );
    return throughLinks.length > 0
      ? throughLinks[pick % throughLinks.length]!
      : `${known.path}/${parts.at(-1)}`;
  }

  /** The directory with a `/` behind it, or nothing for the root. */
  #emptiedBy({ parts, pick, of }: Draft & { readonly kind: "opaque" }): string {
    const known = this.#known[pick % this.#known.length];
    if (of === "root") return "";
    if (of === "any" || !known) return `${parts.join("/")}/`;
    const { path, type } = known;
    return type === "directory" || type === "symlink" ? `${path}/` : path.slice(0, path.lastIndexOf("/") + 1);
  }
}

function dirnameOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** Where a link leads, but for the links on its way. */
function folded(link: readonly string[], target: string): string {
  const parts = target.startsWith("/") ? [] : link.slice(0, -1);
  for (const part of target.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Undefined for what gives its path nothing. */
function typeOf(draft: Draft): ModelEntry["type"] | undefined {
  switch (draft.kind) {
    case "file":
    case "sparse":
      return "file";
    case "directory":
    case "symlink":
    case "hardlink":
      return draft.kind;
    case "device":
      return draft.type;
    case "aufs":
      return "hardlink";
    default:
      return undefined;
  }
}

function placeOf({ parts, place, pick }: Draft, there: readonly Known[]): string[] {
  const links = there.filter(({ type }) => type === "symlink");
  if (place === "at a known path" && there.length > 0) return there[pick % there.length]!.path.split("/");
  if (place === "below a link" && links.length > 0)
    return [...links[pick % links.length]!.path.split("/"), parts.at(-1)!];
  return parts;
}

function symlinkTarget(
  { parts, target, to, form, pick }: Draft & { readonly kind: "symlink" },
  there: readonly Known[],
): string {
  const own = parts.at(-1)!;
  const [first, ...rest] = target;
  let text = target.join("/");
  if (to === "a name ahead" && first! <= own) {
    const ahead = /^[a-d]$/.test(own) ? String.fromCharCode(own.charCodeAt(0) + 1) : "a";
    text = [ahead, ...rest].join("/");
  }
  const directories = there
    .map(({ path, type }) => (type === "directory" ? path : dirnameOf(path)))
    .filter((path) => path !== "" && !`${path}/`.startsWith(`${parts.join("/")}/`));
  if (to === "a directory" && directories.length > 0)
    text = "../".repeat(parts.length - 1) + directories[pick % directories.length];
  if (form === "long") return `${"./".repeat((4095 - text.length) >> 1)}${text}`;
  return form === "/" ? `/${text.replace(/^(\.\.\/)+/, "")}` : form + text;
}
