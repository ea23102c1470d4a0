/**
 * A second opinion on what layers mean, written for reading and not for speed: no nodes, no walk, but a Map from full true paths to
 * things. For each layer: find the places of all whiteouts in the lower map, delete, then apply the entries in order, then the
 * links that found nothing.
 */
export interface ModelEntry {
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "hardlink";
  /** What distinguishes this file or directory from all others; the target of a link. */
  readonly value: string;
}

interface Thing {
  readonly type: "file" | "directory" | "symlink";
  readonly value: string;
}

type Names = Map<string, Thing>;

export function modelMerge(layers: ReadonlyArray<readonly ModelEntry[]>): Names | "error" {
  const names: Names = new Map();
  try {
    for (const layer of layers) applyLayer(names, layer);
  } catch (error) {
    if (error instanceof ModelError) return "error";
    throw error;
  }
  return names;
}

class ModelError extends Error {}

function applyLayer(names: Names, layer: readonly ModelEntry[]): void {
  const lower = new Map(names);
  const content = layer.filter((entry) => !isMarker(entry));

  // A lower link is followed by whiteouts only while this layer neither hides it nor gives its name to something else.
  const replaced = new Map<string, ModelEntry | undefined>();
  for (const { path } of layer.filter(isMarker).filter(({ path }) => !path.endsWith(".wh..wh..opq"))) {
    const dir = truePath(lower, parentOf(path));
    if (dir !== undefined) replaced.set(join(dir, nameOf(path).slice(4)), undefined);
  }
  for (const entry of content) {
    const dir = truePath(lower, parentOf(entry.path));
    if (dir !== undefined) replaced.set(join(dir, nameOf(entry.path)), entry);
  }
  const seen: Names = new Map(lower);
  for (const [path, entry] of replaced) {
    if (lower.get(path)?.type !== "symlink") continue;
    if (entry?.type === "symlink") seen.set(path, { type: "symlink", value: entry.value });
    else seen.delete(path);
  }
  for (const { path } of layer.filter(isMarker)) {
    const dir = truePath(seen, parentOf(path));
    if (dir === undefined || (dir !== "" && seen.get(dir)?.type !== "directory")) continue;
    if (path.endsWith(".wh..wh..opq")) removeBelow(names, dir);
    else removeAll(names, join(dir, nameOf(path).slice(4)));
  }
  const hidden = content.filter(
    ({ type, value }) => type === "hardlink" && find(lower, value) && !find(names, value),
  );

  const pending: Array<{ readonly entry: ModelEntry; readonly thing: Thing }> = [];
  for (const entry of content) {
    const dir = truePath(names, parentOf(entry.path));
    if (dir === undefined) throw new ModelError();
    makeDirectories(names, dir);
    const path = join(dir, nameOf(entry.path));
    if (entry.type === "directory" && names.get(path)?.type === "directory") {
      names.set(path, { type: "directory", value: entry.value });
      continue;
    }
    let thing: Thing | undefined;
    if (entry.type === "hardlink") {
      thing = find(names, entry.value);
      if (thing?.type === "directory") throw new ModelError();
      if (!thing) {
        thing = { type: "file", value: "pending" };
        pending.push({ entry, thing });
      }
    } else thing = { type: entry.type, value: entry.value };
    removeAll(names, path);
    names.set(path, thing);
  }

  // As many rounds as links: a chain in the wrong order gets one right in each.
  for (let round = 0; round < pending.length; round++) {
    for (const { entry, thing } of pending) {
      const at = find(names, entry.value) ?? (hidden.includes(entry) ? find(lower, entry.value) : undefined);
      if (!at || at.type === "directory") throw new ModelError();
      for (const [path, held] of names) if (held === thing) names.set(path, at);
    }
  }
  for (const { thing } of pending) if ([...names.values()].includes(thing)) throw new ModelError();
}

function isMarker({ path, type }: ModelEntry): boolean {
  return type === "file" && nameOf(path).startsWith(".wh.");
}

/** Where `path` really is, all links followed; parts that are not there stand as they are. Undefined in a circle. */
function truePath(names: Names, path: string): string | undefined {
  let todo = path.split("/");
  let done: string[] = [];
  for (let steps = 0; todo.length > 0; steps++) {
    if (steps > 500) return undefined;
    const [part, ...rest] = todo;
    todo = rest;
    if (part === "..") done.pop();
    else if (part !== "") {
      const thing = names.get([...done, part].join("/"));
      if (thing?.type !== "symlink") done.push(part!);
      else {
        if (thing.value.startsWith("/")) done = [];
        todo = [...thing.value.split("/"), ...todo];
      }
    }
  }
  return done.join("/");
}

function find(names: Names, path: string): Thing | undefined {
  const dir = truePath(names, parentOf(path));
  return dir === undefined ? undefined : names.get(join(dir, nameOf(path)));
}

function makeDirectories(names: Names, dir: string): void {
  const parts = dir === "" ? [] : dir.split("/");
  for (let length = 1; length <= parts.length; length++) {
    const path = parts.slice(0, length).join("/");
    if (names.get(path)?.type !== "directory") names.set(path, { type: "directory", value: "implied" });
  }
}

function removeAll(names: Names, path: string): void {
  names.delete(path);
  removeBelow(names, path);
}

function removeBelow(names: Names, dir: string): void {
  for (const path of [...names.keys()]) if (dir === "" || path.startsWith(`${dir}/`)) names.delete(path);
}

function parentOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function join(dir: string, name: string): string {
  return dir === "" ? name : `${dir}/${name}`;
}
