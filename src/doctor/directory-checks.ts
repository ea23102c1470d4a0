/** Directories that have to be there: what the image has at each, and what the start will make of it. */
import { type ByteString, byteStringFromText, displayText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { type FileAttributes, fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { canonicalMode } from "../overlay/seed-directory.js";
import { modeText, ownerText } from "./access.js";
import { type Check, type Finding, fail, ok, warn } from "./check.js";
import { ContainerTree } from "./container-tree.js";
import type { Subject } from "./subject.js";

export const directoryChecks: readonly Check[] = [
  {
    id: "directory",
    asks: "are /proc, /sys, /dev, /tmp, volumes, the working directory and those of --dir directories, or free to be made",
    fix: "have the image not put anything else in these places",
    run: (subject) => subject.seeds.flatMap(({ path, mode }) => seeded(subject, path, mode)),
  },
  {
    id: "run-directory",
    asks: "is /run a directory, where programs put sockets and pid files",
    fix: "have it made: --dir /run",
    run: runDirectory,
  },
  {
    id: "tmp-mode",
    asks: "may everybody write to /tmp, and nobody remove what others have there (mode 1777)",
    fix: "chmod 1777 /tmp when the image is built (a tmpfs gets the mode of what it covers)",
    run: temporaryDirectory,
  },
];

const types: Readonly<Record<number, string>> = {
  [fileTypes.file]: "a file",
  [fileTypes.character]: "a device",
  [fileTypes.block]: "a device",
  [fileTypes.fifo]: "a FIFO",
};

function seeded(subject: Subject, path: string, mode: number | undefined): Finding[] {
  const where = byteStringFromText(path);
  if (path === "/proc" || path === "/sys") {
    const entry = new ContainerTree(subject.filesystem).entryAt(where);
    if (entry && isType(entry, fileTypes.symlink))
      return [
        fail(
          path,
          `a symlink to ${displayText(subject.filesystem.readLink(entry.ino))} (the runtime will say "must be mounted on ordinary directory")`,
          "have the image make it a directory, or leave it out",
        ),
      ];
  }
  try {
    // A tree of its own: what a seed before this one has made is not the image's.
    const tree = new ContainerTree(subject.filesystem);
    tree.makeDirectory(where, mode ?? canonicalMode(path));
    return [ok(stateText(subject, where, mode ?? canonicalMode(path)), displayText(where))];
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return [
      fail(
        displayText(where),
        `${obstacleText(subject, where, error)}: no directory can be made there`,
        subject.config.volumes.includes(path)
          ? "have the image name another volume, or no longer put this there"
          : "choose another directory (--workdir, --dir), or have the image not put this there",
      ),
    ];
  }
}

/** What the image has at a path that is, or can become, a directory. */
function stateText({ filesystem }: Subject, path: ByteString, mode: number): string {
  const tree = new ContainerTree(filesystem);
  const entry = tree.entryAt(path);
  if (!entry) return `not in the image, made at the start (mode ${modeText(mode)})`;
  if (!isType(entry, fileTypes.symlink)) return `in the image (${ownerText(entry)})`;
  const target = displayText(filesystem.readLink(entry.ino));
  const found = directoryAt(tree, path);
  return found
    ? `in the image, a symlink to ${target} (${ownerText(found)})`
    : `a symlink to ${target}, which is made at the start`;
}

function obstacleText({ filesystem }: Subject, path: ByteString, error: ErrnoError): string {
  const tree = new ContainerTree(filesystem);
  const entry = tree.entryAt(path);
  const type = entry && types[entry.mode & fileTypeMask];
  if (type) return `${type} in the image`;
  if (error.errnoName === "ELOOP") return "symlinks lead in a circle";
  return `${error.message} in the image`;
}

function directoryAt(tree: ContainerTree, path: ByteString): FileAttributes | undefined {
  try {
    const found = tree.attributes(tree.realPath(path).ino);
    return isType(found, fileTypes.directory) ? found : undefined;
  } catch (error) {
    if (error instanceof ErrnoError) return undefined;
    throw error;
  }
}

function isType({ mode }: FileAttributes, type: number): boolean {
  return (mode & fileTypeMask) === type;
}

function runDirectory(subject: Subject): Finding[] {
  const path = "/run" as ByteString;
  const found = directoryAt(subject.tree, path);
  if (found) return [ok(`there (${ownerText(found)})`, path)];
  if (subject.tree.entryAt(path))
    return [
      warn(path, "not a directory: programs that put sockets there fail", "have the image make it one"),
    ];
  return [ok("not in the image; programs that put sockets there want --dir /run", path)];
}

function temporaryDirectory(subject: Subject): Finding[] {
  const path = "/tmp" as ByteString;
  const found = directoryAt(subject.tree, path);
  // That it cannot be one is said of the directory already.
  if (!found || (found.mode & 0o7777) === 0o1777) return [];
  const everybody = (found.mode & 0o003) === 0o003;
  return [
    warn(
      path,
      everybody
        ? `${ownerText(found)}, not 1777: everybody may remove what others have there`
        : `${ownerText(found)}, not 1777: programs of other users than its owner cannot write there`,
      "chmod 1777 /tmp when the image is built",
    ),
  ];
}
