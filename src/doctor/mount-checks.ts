/** Mounts that the container will get: what is at their targets, and whether the runtime can put them there. */
import { stat } from "node:fs/promises";
import path from "node:path";
import { byteStringFromText, displayText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { type Check, type Finding, fail, ok } from "./check.js";
import { ContainerTree } from "./container-tree.js";
import type { Subject } from "./subject.js";

export const mountChecks: readonly Check[] = [
  {
    id: "mount-target",
    asks: "is each mount's target absolute, neither / nor in /proc, and no other mount's too",
    fix: "choose other targets",
    run: targets,
  },
  {
    id: "mount",
    asks: "are source and target of each mount both directories, or both files, and the way to the target free",
    fix: "mount a directory on a directory, a file on a file",
    run: mounts,
  },
];

interface PlannedMount {
  readonly target: string;
  /** Undefined for what has no file behind it: a tmpfs. */
  readonly source: string | undefined;
  readonly option: string;
}

function plannedMounts({ start }: Subject): PlannedMount[] {
  const mounts = (start.mounts ?? []).map(({ destination, type, source }) => ({
    target: destination,
    source: type === "bind" ? source : undefined,
    option: "--mount",
  }));
  const injected = (start.injected ?? []).map((one) => ({
    target: one.path,
    source: one.host,
    option: "--inject",
  }));
  return [...mounts, ...injected];
}

function targets(subject: Subject): Finding[] {
  const seen = new Set<string>();
  const findings: Finding[] = [];
  for (const { target, option } of plannedMounts(subject)) {
    const normal = path.posix.resolve("/", target);
    const shown = displayText(byteStringFromText(target));
    const refuse = (detail: string) =>
      findings.push(fail(shown, `${detail} (skim refuses it)`, `choose another target (${option})`));
    if (!target.startsWith("/")) refuse("a mount's target, and not an absolute path");
    else if (normal === "/") refuse("a mount on the root, which would hide the image");
    else if (/^\/proc(\/|$)/.test(normal)) refuse("a mount in /proc, where runtimes let nothing be mounted");
    else if (seen.has(normal)) refuse("two mounts have this target");
    seen.add(normal);
  }
  return findings;
}

async function mounts(subject: Subject): Promise<Finding[]> {
  // Directories are made before; mounts are made in the order of their depth, each on what those before have made of the tree.
  const tree = new ContainerTree(subject.filesystem);
  const nameFiles = subject.host.nameFiles.map((file) => ({ target: file, source: file, option: "" }));
  const planned = [...nameFiles, ...plannedMounts(subject)];
  const depth = ({ target }: PlannedMount) => path.posix.resolve("/", target).split("/").length;
  const findings: Finding[] = [];
  for (const mount of planned.sort((a, b) => depth(a) - depth(b))) {
    const found = await mountOn(tree, mount);
    // Those that every container gets are named only where they fail.
    if (mount.option !== "" || found.status !== "ok") findings.push(found);
  }
  return findings;
}

async function mountOn(tree: ContainerTree, { target, source, option }: PlannedMount): Promise<Finding> {
  const shown = displayText(byteStringFromText(target));
  const isDirectory = source === undefined ? true : await isHostDirectory(source);
  if (isDirectory === undefined)
    return fail(
      shown,
      `its source ${displayText(byteStringFromText(source!))} is not on this host (the runtime will say "no such file or directory")`,
      `correct the source (${option})`,
    );
  const kind = isDirectory ? "a directory" : "a file";
  const advice = option
    ? `choose another target, or a source of its kind (${option})`
    : "have the image leave this place to the host";
  const what =
    option === ""
      ? `the host's ${source} is mounted there`
      : `${source === undefined ? "a tmpfs" : kind} is to be mounted`;
  try {
    const found = tree.attributes(tree.realPath(byteStringFromText(target)).ino);
    const isFound = (found.mode & fileTypeMask) === fileTypes.directory;
    if (isFound !== isDirectory)
      return fail(
        shown,
        `${what}, and the image has ${isFound ? "a directory" : "no directory"} there (the runtime will say "not a directory")`,
        advice,
      );
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    if (error.errnoName !== "ENOENT")
      return fail(
        shown,
        `${what}, and ${error.errnoName === "ELOOP" ? "symlinks on the way lead in a circle" : "something on the way is not a directory"} (the runtime will say "${error.errnoName === "ELOOP" ? "too many levels of symbolic links" : "not a directory"}")`,
        advice,
      );
  }
  try {
    const place = byteStringFromText(target);
    tree.mount(
      place,
      source === undefined ? { directoryMode: 0o1777 } : { host: byteStringFromText(source) },
    );
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return fail(shown, `${what}: ${error.message}`, advice);
  }
  return ok(
    `${kind} of the host's, mounted there`.replace(
      /^a directory of the host's/,
      source === undefined ? "a tmpfs" : "$&",
    ),
    shown,
  );
}

/** Undefined where there is nothing. */
async function isHostDirectory(source: string): Promise<boolean | undefined> {
  return await stat(source).then(
    (found) => found.isDirectory(),
    () => undefined,
  );
}
