import { createHash } from "node:crypto";

export type ThingType = "file" | "directory" | "symlink" | "character" | "block" | "fifo";

/** A file of any kind, whatever its names are. */
export interface Thing {
  readonly type: ThingType;
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  xattrs: ReadonlyMap<string, string>;
  readonly content: Buffer;
  readonly target: string;
  /** `major:minor` */
  readonly device: string;
}

/** What stands where; the root's path is empty. */
export type Names = Map<string, Thing>;

/** What can be seen of one name: the fields of tree-dump.ts, declared here once more because the model imports nothing of the product. */
export interface ModelLine {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly nlink: number;
  readonly firstName: string;
  readonly linkTarget: string;
  readonly device: string;
  readonly xattrs: ReadonlyArray<readonly [name: string, value: string]>;
  readonly sha256: string;
}

/** By path bytes. */
export function modelLines(names: Names): ModelLine[] {
  const paths = [...names.keys()].sort((a, b) => (a < b ? -1 : 1));
  return paths.map((path) => {
    const thing = names.get(path)!;
    const namesOfThing = paths.filter((other) => names.get(other) === thing);
    const isDirectory = thing.type === "directory";
    return {
      path,
      type: thing.type,
      mode: thing.mode,
      uid: thing.uid,
      gid: thing.gid,
      size: thing.type === "symlink" ? thing.target.length : thing.content.length,
      mtimeSec: thing.mtimeSec,
      mtimeNsec: thing.mtimeNsec,
      nlink: isDirectory ? 2 + subdirectories(names, path) : namesOfThing.length,
      firstName: namesOfThing[0]!,
      linkTarget: thing.target,
      device: thing.device,
      xattrs: [...thing.xattrs].sort(([a], [b]) => (a < b ? -1 : 1)),
      sha256: thing.type === "file" ? sha256(thing) : "",
    };
  });
}

function subdirectories(names: Names, dir: string): number {
  const prefix = dir === "" ? "" : `${dir}/`;
  let count = 0;
  for (const [path, { type }] of names) {
    const isChild = path !== "" && path.startsWith(prefix) && !path.slice(prefix.length).includes("/");
    if (isChild && type === "directory" && path !== dir) count++;
  }
  return count;
}

function sha256({ content }: Thing): string {
  return createHash("sha256").update(content).digest("hex");
}
