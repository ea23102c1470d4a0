/** What the inodes of the image say of themselves: link counts, devices, set-user-ID programs. One pass over all inodes; names only of what is found. */
import type { Archive } from "../archive/archive.js";
import { type ByteString, displayText } from "../base/byte-string.js";
import { type Check, type Finding, fail, listText, ok, warn } from "./check.js";
import type { Subject } from "./subject.js";

export const attributeChecks: readonly Check[] = [
  {
    id: "link-counts",
    asks: "has every file a link count, and every directory that of its subdirectories (runc refuses what has none)",
    fix: "index the image anew",
    run: linkCounts,
  },
  {
    id: "hard-links",
    asks: "are files with several names one file (a link to nothing is refused when the image is indexed)",
    fix: "build the image anew with a current tool",
    run: hardLinks,
  },
  {
    id: "devices",
    asks: "are there device nodes outside of /dev, which the runtime makes itself",
    fix: "leave them out of the image, and give the container devices when it starts",
    run: devices,
  },
  {
    id: "setuid",
    asks: "which programs run as another user than the one who starts them",
    fix: "remove the bits (chmod a-s) from what nobody needs",
    run: setuid,
  },
];

interface OddInodes {
  readonly unlinked: number[];
  readonly linked: number;
  readonly devices: ReadonlySet<number>;
  readonly setuid: ReadonlySet<number>;
}

const scans = new WeakMap<Archive, OddInodes>();

function oddInodes(archive: Archive): OddInodes {
  const known = scans.get(archive);
  if (known) return known;
  const found = {
    unlinked: [] as number[],
    linked: 0,
    devices: new Set<number>(),
    setuid: new Set<number>(),
  };
  for (let ino = 1; ino <= archive.inodeCount; ino++) {
    const { type, nlink, mode } = archive.inode(ino);
    if (nlink < (type === "directory" ? 2 : 1)) found.unlinked.push(ino);
    if (type === "file" && nlink > 1) found.linked++;
    if (type === "character" || type === "block") found.devices.add(ino);
    if (type === "file" && (mode & 0o6000) !== 0) found.setuid.add(ino);
  }
  scans.set(archive, found);
  return found;
}

/** Paths of some inodes in the order of the tree, one each; a walk over all names. */
function pathsOf(archive: Archive, inodes: ReadonlySet<number>): ByteString[] {
  if (inodes.size === 0) return [];
  const paths = new Map<number, ByteString>();
  const pending: { ino: number; path: string }[] = [{ ino: 1, path: "" }];
  for (let next = pending.pop(); next && paths.size < inodes.size; next = pending.pop()) {
    for (const { name, inode, type } of archive.dirents(next.ino)) {
      const path = `${next.path}/${name}`;
      if (inodes.has(inode) && !paths.has(inode)) paths.set(inode, path as ByteString);
      if (type === 4) pending.push({ ino: inode, path });
    }
  }
  return [...paths.values()].sort();
}

function linkCounts({ archive }: Subject): Finding[] {
  const { unlinked } = oddInodes(archive);
  if (unlinked.length === 0) return [ok("all files and directories have theirs")];
  return [
    fail(
      listText(pathsOf(archive, new Set(unlinked)).map(displayText), 3),
      `${unlinked.length} inodes without links (the runtime will say "wandered into deleted directory")`,
      "index the image anew",
    ),
  ];
}

function hardLinks({ archive }: Subject): Finding[] {
  const { linked } = oddInodes(archive);
  return [
    ok(linked === 0 ? "no file has several names" : `${linked} files have several names, each one file`),
  ];
}

function devices({ archive }: Subject): Finding[] {
  const paths = pathsOf(archive, oddInodes(archive).devices);
  const hidden = paths.filter((path) => path.startsWith("/dev/"));
  const others = paths.filter((path) => !path.startsWith("/dev/")).map(displayText);
  if (others.length > 0)
    return [
      warn(
        others[0]!,
        `${others.length} device nodes outside of /dev (${listText(others, 4)}): the container may not open them`,
        "leave them out of the image, and give the container devices when it starts",
      ),
    ];
  return [
    ok(
      hidden.length === 0
        ? "no device nodes in the image"
        : `${hidden.length} device nodes in /dev, where the runtime mounts its own`,
    ),
  ];
}

function setuid({ archive }: Subject): Finding[] {
  const paths = pathsOf(archive, oddInodes(archive).setuid).map(displayText);
  return [
    ok(
      paths.length === 0
        ? "no set-user-ID or set-group-ID programs"
        : `${paths.length}: ${listText(paths, 40)}`,
    ),
  ];
}
