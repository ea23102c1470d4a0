/**
 * A second opinion on what layers mean (SEMANTICS.md, "From layers to a tree"), written for reading and not for speed. It knows nothing of the
 * product: no nodes, no walk, but one Map from true paths to things, where a true path has no links, no `..` and no `.` on its way.
 * A thing with several names stands in the Map several times.
 *
 * For each layer: find in the lower Map what its whiteouts hide, delete that, apply the entries in their order, then the hard links
 * that found nothing at their turn. Every string has one character a byte.
 */
import { ModelError, type ModelEvent } from "./model-events.js";
import { type ModelLine, modelLines, type Names, type Thing, type ThingType } from "./model-tree.js";

/** One tar member. */
export interface ModelEntry {
  /** As it stands in the tar. */
  readonly path: string;
  readonly type: ThingType | "hardlink";
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Of symlinks and hard links, as it stands in the tar. */
  readonly target: string;
  readonly major: number;
  readonly minor: number;
  /** In the order of the tar; a name that comes twice counts the second time. */
  readonly xattrs: ReadonlyArray<readonly [name: string, value: string]>;
  /** Bytes of a file as it reads; zeros where no piece is. */
  readonly size: number;
  readonly pieces: ReadonlyArray<{ readonly offset: number; readonly bytes: Buffer }>;
}

export interface ModelResult {
  /** What can be seen of the tree; undefined where the layers are refused. */
  readonly lines: readonly ModelLine[] | undefined;
  /** Why, and in which layer (from 1); undefined for a tree. */
  readonly refusal: { readonly layer: number; readonly reason: string } | undefined;
  readonly events: ReadonlySet<ModelEvent>;
}

export function modelOf(layers: ReadonlyArray<readonly ModelEntry[]>): ModelResult {
  const names: Names = new Map([["", impliedDirectory()]]);
  const events = new Set<ModelEvent>();
  for (const [position, entries] of layers.entries()) {
    try {
      applyLayer(names, entries, (event) => events.add(event));
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      return { lines: undefined, refusal: { layer: position + 1, reason: error.message }, events };
    }
  }
  return { lines: modelLines(names), refusal: undefined, events };
}

type Note = (event: ModelEvent) => void;

/** What is known while one layer is applied. */
interface Layer {
  /** The tree so far, changed with every entry. */
  readonly names: Names;
  /** The tree that the lower layers gave. */
  readonly lower: Names;
  /** AUFS's own files, by their folded paths: seen by hard links of the same layer only. */
  readonly aufs: Names;
  readonly pending: Array<{ readonly entry: ModelEntry; readonly placeholder: Thing }>;
  readonly note: Note;
}

function applyLayer(names: Names, entries: readonly ModelEntry[], note: Note): void {
  const layer: Layer = { names, lower: new Map(names), aufs: new Map(), pending: [], note };
  for (const entry of entries) checkParts(entry, note);
  const markers = entries.filter(isMarker);
  const content = entries.filter((entry) => !isMarker(entry));
  hide(
    layer,
    markers,
    content.filter((entry) => !isAufs(folded(entry.path))),
  );
  const afterHiding = new Map(names);
  const seen = new Set<string>();
  for (const entry of content) {
    if (seen.has(folded(entry.path).join("/"))) note("a path is declared twice in a layer");
    seen.add(folded(entry.path).join("/"));
    applyEntry(layer, entry);
  }
  settleLinks(layer, afterHiding);
}

const refusedParts = [".wh.", ".wh..", ".wh..."];
const opaque = ".wh..wh..opq";

function checkParts({ path }: ModelEntry, note: Note): void {
  for (const part of folded(path)) {
    if (refusedParts.includes(part)) throw new ModelError(`a whiteout of nothing: ${path}`);
    // A whiteout may be longer by its prefix.
    if (part.replace(/^\.wh\./, "").length > 255) throw new ModelError(`a name that is too long: ${path}`);
  }
  if (path.split("/").includes("..")) note("a name has .. in it");
}

/** AUFS made all whiteouts of a branch links of one file, so hard links are markers too; anything else is content. */
function isMarker({ path, type }: ModelEntry): boolean {
  const parts = folded(path);
  return (
    parts.at(-1)?.startsWith(".wh.") === true && !isAufs(parts) && (type === "file" || type === "hardlink")
  );
}

function isAufs(parts: readonly string[]): boolean {
  return parts.some((part) => part.startsWith(".wh..wh.") && part !== opaque);
}

function hide(
  { names, lower, note }: Layer,
  markers: readonly ModelEntry[],
  content: readonly ModelEntry[],
): void {
  const view = lowerViewOf(lower, markers, content);
  for (const { path } of markers) {
    const [parent, name] = divided(folded(path));
    const dir = truePath(view, parent);
    if (dir === undefined || view.get(dir)?.type !== "directory") continue;
    const before = names.size;
    if (name === opaque) removeBelow(names, dir);
    else removeAll(names, join(dir, name.slice(4)));
    if (names.size === before) continue;
    note(name === opaque ? "an opaque directory loses something" : "a whiteout hides something");
    if (dir !== parent.join("/")) note("a whiteout hides something through a link");
  }
}

/**
 * The lower tree as whiteouts walk it: nothing that a lower layer gave is below a link that this layer hides or gives its name to something
 * else; one that it gives anew is walked as the new one.
 */
function lowerViewOf(lower: Names, markers: readonly ModelEntry[], content: readonly ModelEntry[]): Names {
  const lastOf = new Map<string, ModelEntry | undefined>();
  for (const { path } of markers) {
    const [parent, name] = divided(folded(path));
    const dir = truePath(lower, parent);
    if (dir !== undefined && name !== opaque) lastOf.set(join(dir, name.slice(4)), undefined);
  }
  for (const entry of content) {
    const parts = folded(entry.path);
    const dir = truePath(lower, parts.slice(0, -1));
    if (dir !== undefined && parts.length > 0) lastOf.set(join(dir, parts.at(-1)!), entry);
  }
  const view = new Map(lower);
  for (const [path, entry] of lastOf) {
    if (lower.get(path)?.type !== "symlink") continue;
    if (entry?.type === "symlink") view.set(path, thingOf(entry, "symlink"));
    else view.delete(path);
  }
  return view;
}

function applyEntry(layer: Layer, entry: ModelEntry): void {
  const { names, aufs, note } = layer;
  const parts = folded(entry.path);
  if (isAufs(parts)) {
    aufs.set(parts.join("/"), entry.type === "hardlink" ? linked(layer, entry) : thingOf(entry, entry.type));
    return;
  }
  if (parts.length === 0) {
    if (entry.type !== "directory") throw new ModelError(`the root is a ${entry.type}`);
    describe(names.get("")!, entry);
    note("the root is described");
    return;
  }
  const [parent, name] = divided(parts);
  const dir = truePath(names, parent);
  if (dir === undefined) throw new ModelError(`links in a circle: ${entry.path}`);
  if (dir !== parent.join("/")) note("an entry goes through a link");
  makeDirectories(layer, dir);
  if (name.length > 255) throw new ModelError(`a name that is too long: ${entry.path}`);
  if (name.startsWith(".wh.")) note("a name of a whiteout is content");
  const path = join(dir, name);
  const before = names.get(path);
  if (entry.type !== "hardlink") noteContent(entry, entry.type, note);
  if (entry.type === "directory" && before?.type === "directory") {
    describe(before, entry);
    note("a directory is declared again");
    return;
  }
  const thing = entry.type === "hardlink" ? linked(layer, entry) : thingOf(entry, entry.type);
  if (before !== undefined) {
    if (before.type !== thing.type) note("a type changes");
    if (before.type === "symlink" && thing.type === "directory") note("a directory replaces a link");
    if ([...names.values()].filter((other) => other === before).length > 1)
      note("a name of several is replaced");
  }
  removeAll(names, path);
  names.set(path, thing);
}

/** The thing that stands at a hard link's target now; else a placeholder, for `settleLinks`. */
function linked(layer: Layer, entry: ModelEntry): Thing {
  const found = targetIn(layer, layer.names, entry);
  if (found?.type === "directory") throw new ModelError(`a hard link to a directory: ${entry.path}`);
  layer.note(found?.type === "symlink" ? "a hard link to a symbolic link" : "a hard link");
  if (found !== undefined) return found;
  const placeholder: Thing = { ...impliedDirectory(), type: "file" };
  layer.pending.push({ entry, placeholder });
  return placeholder;
}

function targetIn({ aufs, note }: Layer, names: Names, { target }: ModelEntry): Thing | undefined {
  const parts = folded(target);
  if (parts.length === 0) return names.get("");
  if (isAufs(parts)) {
    if (aufs.has(parts.join("/"))) note("a hard link to a file of AUFS");
    return aufs.get(parts.join("/"));
  }
  const [parent, name] = divided(parts);
  const dir = truePath(names, parent);
  return dir === undefined ? undefined : names.get(join(dir, name));
}

/**
 * At the layer's end: links to what came later, and to what only this layer's whiteouts have hidden. A chain in the wrong order gets one link
 * right in each round, so there are as many rounds as links.
 */
function settleLinks(layer: Layer, afterHiding: Names): void {
  const { names, lower, aufs, pending, note } = layer;
  for (let round = 0; round < pending.length; round++) {
    for (const { entry, placeholder } of pending) {
      let thing = targetIn(layer, names, entry);
      if (thing !== undefined) note("a hard link to what comes later");
      else if (targetIn(layer, afterHiding, entry) === undefined) {
        thing = targetIn(layer, lower, entry);
        if (thing !== undefined) note("a hard link to what the layer hides");
      }
      if (thing === undefined) throw new ModelError(`a hard link to nothing: ${entry.path}=${entry.target}`);
      if (thing.type === "directory") throw new ModelError(`a hard link to a directory: ${entry.path}`);
      for (const places of [names, aufs])
        for (const [path, held] of places) if (held === placeholder) places.set(path, thing);
    }
  }
  const left = new Set([...names.values(), ...aufs.values()]);
  for (const { entry, placeholder } of pending)
    if (left.has(placeholder)) throw new ModelError(`hard links in a circle: ${entry.path}`);
}

function makeDirectories({ names, note }: Layer, dir: string): void {
  const parts = dir === "" ? [] : dir.split("/");
  for (let length = 1; length <= parts.length; length++) {
    const path = parts.slice(0, length).join("/");
    const before = names.get(path);
    if (before?.type === "directory") continue;
    if (parts[length - 1]!.length > 255) throw new ModelError(`a name that is too long in ${dir}`);
    note(before === undefined ? "a directory is implied" : "a file becomes a directory");
    names.set(path, impliedDirectory());
  }
}

function impliedDirectory(): Thing {
  const none = {
    mtimeSec: 0,
    mtimeNsec: 0,
    xattrs: new Map(),
    content: Buffer.alloc(0),
    target: "",
    device: "",
  };
  return { type: "directory", mode: 0o755, uid: 0, gid: 0, ...none };
}

function thingOf(entry: ModelEntry, type: ThingType): Thing {
  const content = Buffer.alloc(type === "file" ? entry.size : 0);
  if (type === "file") for (const { offset, bytes } of entry.pieces) bytes.copy(content, offset);
  const thing: Thing = {
    ...impliedDirectory(),
    type,
    content,
    target: type === "symlink" ? entry.target : "",
    device: type === "character" || type === "block" ? `${entry.major}:${entry.minor}` : "",
  };
  describe(thing, entry);
  return thing;
}

function describe(thing: Thing, { mode, uid, gid, mtimeSec, mtimeNsec, xattrs }: ModelEntry): void {
  // No Linux filesystem has modes for symlinks.
  Object.assign(thing, { mode: thing.type === "symlink" ? 0o777 : mode, uid, gid, mtimeSec, mtimeNsec });
  thing.xattrs = new Map(xattrs.filter(([name]) => !isLeftOut(name, thing.type)));
}

function isLeftOut(name: string, type: ThingType): boolean {
  if (isOfUsersInVain(name, type)) return true;
  if (name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.")) return true;
  return name === "security.selinux" || name === "system.nfs4_acl";
}

/** Linux has those of users for files and directories only. */
function isOfUsersInVain(name: string, type: ThingType): boolean {
  return name.startsWith("user.") && type !== "file" && type !== "directory";
}

function noteContent({ size, pieces, xattrs }: ModelEntry, type: ThingType, note: Note): void {
  const stored = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (type === "file" && stored < size) note("a sparse file");
  if (xattrs.some(([name]) => isLeftOut(name, type))) note("an attribute is left out");
  if (xattrs.some(([name]) => isOfUsersInVain(name, type)))
    note("an attribute of users is left out of what is neither file nor directory");
  if (xattrs.some(([name]) => !isLeftOut(name, type))) note("an attribute is kept");
}

/** MAXSYMLINKS of the kernel: a path through more links leads nowhere for anybody. */
const linksMax = 40;

/** Where `parts` really are, all links followed; parts that are not there stand as they are. Undefined in a circle of links. */
function truePath(names: Names, parts: readonly string[]): string | undefined {
  let todo = [...parts];
  let done: string[] = [];
  let links = 0;
  while (todo.length > 0) {
    const part = todo.shift()!;
    if (part === "..") done.pop();
    if (part === "" || part === "." || part === "..") continue;
    const thing = names.get([...done, part].join("/"));
    if (thing?.type !== "symlink") {
      done.push(part);
      continue;
    }
    links++;
    if (links > linksMax) return undefined;
    if (thing.target.startsWith("/")) done = [];
    todo = [...thing.target.split("/"), ...todo];
  }
  return done.join("/");
}

/** A name in a tar, folded as text inside the root. */
function folded(path: string): string[] {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts;
}

function divided(parts: readonly string[]): [parent: string[], name: string] {
  return [parts.slice(0, -1), parts.at(-1)!];
}

function removeAll(names: Names, path: string): void {
  names.delete(path);
  removeBelow(names, path);
}

function removeBelow(names: Names, dir: string): void {
  for (const path of [...names.keys()])
    if (path !== "" && (dir === "" || path.startsWith(`${dir}/`))) names.delete(path);
}

function join(dir: string, name: string): string {
  return dir === "" ? name : `${dir}/${name}`;
}
