/**
 * From the names in a tar to places in the tree.
 *
 * A name is first folded as text: empty parts and `.` go, `..` takes the part before it and stops at the root. The
 * walk then goes down part by part and follows symbolic links as a process would whose root directory is the image: absolute targets start
 * at the root again, `..` at the root stays there. Where nothing (or no directory) stands, the walk goes on with names alone, so that a
 * later `..` can take them back and the caller may create what remains: a path through a dangling link leads to where the link points.
 * These are the rules of filepath-securejoin, which umoci resolves with. Nothing recurses, and the tree is not changed.
 */
import type { ByteString } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";
import { shownName } from "../layer/tar-names.js";
import type { TreeNode } from "./image-tree.js";

/** MAXSYMLINKS of the kernel: a path with more links on its way is ELOOP for everybody who opens it. */
const LINKS_FOLLOWED_MAX = 40;

/**
 * Steps that come from link targets, of all walks in one image. An honest path has one or two links on its way; a hostile one makes each
 * 512-byte tar entry walk 40 targets of 2,048 parts. This many take one or two seconds.
 */
const LINK_STEPS_MAX = 50_000_000;

/** Where a name stands: the directory's path (not yet walked, without `..`), and the last part. */
export interface SplitPath {
  readonly parent: ByteString;
  readonly name: ByteString;
}

/** Splits off the last part of a path in a tar; undefined for the root itself. */
export function splitPath(path: ByteString): SplitPath | undefined {
  if (!path.includes("..")) {
    let end = path.length;
    while (end > 0 && path.charCodeAt(end - 1) === 0x2f) end--;
    const slash = path.lastIndexOf("/", end - 1);
    const name = path.slice(slash + 1, end) as ByteString;
    if (end > 0 && name !== ".") return { parent: path.slice(0, Math.max(slash, 0)) as ByteString, name };
  }
  const parts = foldPath(path);
  const name = parts.pop();
  return name === undefined ? undefined : { parent: parts.join("/") as ByteString, name };
}

/** The parts of a path in a tar, folded inside the root. */
export function foldPath(path: ByteString): ByteString[] {
  const parts: ByteString[] = [];
  for (const part of path.split("/") as ByteString[]) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts;
}

export function hasParentParts(path: ByteString): boolean {
  return path.includes("..") && path.split("/").includes("..");
}

/**
 * A finished walk. `nodes[0]` is the root, `nodes[i]` what stands at the name `names[i]` in `nodes[i - 1]`: undefined where nothing does,
 * and from there on. Only the last of an unbroken row of nodes can be something else than a directory.
 */
export interface Walk {
  readonly nodes: Array<TreeNode | undefined>;
  readonly names: ByteString[];
}

/** Decides about a symbolic link on the way: the target to follow, or undefined where the walk finds nothing in its place. */
export type LinkRule = (dir: TreeNode, name: ByteString, link: TreeNode) => ByteString | undefined;

const followEvery: LinkRule = (_dir, _name, link) => link.linkTarget;

export class PathWalker {
  readonly root: TreeNode;
  #linkStepsLeft = LINK_STEPS_MAX;

  constructor(root: TreeNode) {
    this.root = root;
  }

  /**
   * Walks down the parts of `path`, the last one included; a link at the end is followed too. Returns undefined where links lead in a
   * circle, or through more than 40 of them. Throws LIMIT_EXCEEDED where hostile links have used up the steps of this image.
   */
  walk(path: ByteString, linkRule: LinkRule = followEvery): Walk | undefined {
    const nodes: Array<TreeNode | undefined> = [this.root];
    const names: ByteString[] = ["" as ByteString];
    const ahead = (path.split("/") as ByteString[]).reverse();
    let linksFollowed = 0;
    for (let part = ahead.pop(); part !== undefined; part = ahead.pop()) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (nodes.length > 1) {
          nodes.pop();
          names.pop();
        }
        continue;
      }
      const dir = nodes.at(-1);
      const child = dir?.children?.get(part);
      if (child?.type !== "symlink") {
        nodes.push(child);
        names.push(part);
        continue;
      }
      const target = linkRule(dir!, part, child);
      if (target === undefined) {
        nodes.push(undefined);
        names.push(part);
        continue;
      }
      const steps = target.split("/") as ByteString[];
      this.#linkStepsLeft -= steps.length;
      if (this.#linkStepsLeft < 0) throw tooManySteps(path);
      if (++linksFollowed > LINKS_FOLLOWED_MAX) return undefined;
      if (target.startsWith("/")) {
        nodes.length = 1;
        names.length = 1;
      }
      for (let at = steps.length - 1; at >= 0; at--) ahead.push(steps[at]!);
    }
    return { nodes, names };
  }

  /** The directory that `path` leads to, if there is one. */
  directoryAt(path: ByteString, linkRule?: LinkRule): TreeNode | undefined {
    const last = this.walk(path, linkRule)?.nodes.at(-1);
    return last?.type === "directory" ? last : undefined;
  }

  /** What stands at `path`; a link there is not followed, those before it are. The root for a path that folds to it. */
  nodeAt(path: ByteString): TreeNode | undefined {
    const place = splitPath(path);
    return place ? this.directoryAt(place.parent)?.children?.get(place.name) : this.root;
  }
}

function tooManySteps(path: ByteString): SkimError {
  const found = `the symbolic links of this image took more than ${LINK_STEPS_MAX} steps to follow, the last ones at`;
  return new SkimError(
    "LIMIT_EXCEEDED",
    `${found} ${shownName(path)}; no honest image comes near, build it again`,
  );
}
