/** Whom the process runs as, and whether the directories it will write to are writable for him. Root may write everywhere: the upper layer takes it. */
import { byteStringFromText, displayText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { directoryOf } from "../program/program-image.js";
import { mayAccess, ownerText } from "./access.js";
import { type Check, type Finding, fail, ok, warn } from "./check.js";
import type { Subject } from "./subject.js";
import { writingProfiles } from "./tool-profiles.js";

export const userChecks: readonly Check[] = [
  {
    id: "user",
    asks: "is the user (USER of the image, or --user) in the image's passwd, and its group in group; or are they numbers; can runc read both files",
    fix: "give numbers, or add the user when the image is built",
    run: (subject) => [...user(subject), ...accountsFiles(subject)],
  },
  {
    id: "workdir",
    asks: "is the working directory one that the user may be in and write to",
    fix: "chown it when the image is built, or choose another (--workdir)",
    run: workingDirectory,
  },
  {
    id: "home",
    asks: "is HOME there, and writable for the user",
    fix: "make it when the image is built, or set HOME (--env)",
    run: home,
  },
  {
    id: "tmp",
    asks: "may the user write to /tmp",
    fix: "chmod 1777 /tmp when the image is built (a tmpfs gets the mode of what it covers)",
    run: temporaryFiles,
  },
];

function user(subject: Subject): Finding[] {
  const given = subject.start.user ?? subject.config.user;
  const shown = given === "" ? "root" : given;
  if (subject.user) {
    const { uid, gid, additionalGids } = subject.user;
    const groups = additionalGids.filter((id) => id !== gid);
    const more = groups.length > 0 ? `, also of groups ${groups.join(", ")}` : "";
    return [ok(`${JSON.stringify(shown)} is ${uid}:${gid}${more}, HOME ${subject.home}`)];
  }
  if (subject.accountsUnread)
    return [
      warn(shown, "not looked up: the image's accounts would take too much to read", "give numbers (--user)"),
    ];
  return [
    fail(
      JSON.stringify(shown),
      subject.userProblem ?? "cannot be looked up",
      "give numbers (--user 1000:1000), or add the user to /etc/passwd when the image is built",
    ),
  ];
}

/** runc (1.1) opens both in the container, whoever is to be run, and waits for a writer of a FIFO without end; crun and runsc leave them alone. */
function accountsFiles({ filesystem, start }: Subject): Finding[] {
  if ((start.runtime ?? "runc") !== "runc") return [];
  return ["/etc/passwd", "/etc/group"].flatMap((path) => {
    // What is mounted there is for "mount" to judge.
    if (start.mounts?.some(({ destination }) => destination === path)) return [];
    const type = typeAt(filesystem, path);
    const what =
      type === fileTypes.fifo
        ? "a FIFO: runc opens it and hangs"
        : type === fileTypes.directory
          ? 'a directory: runc reads it and fails ("is a directory")'
          : undefined;
    return what === undefined ? [] : [fail(path, what, "make it a file when the image is built")];
  });
}

/** Undefined where nothing is. */
function typeAt(tree: Subject["filesystem"], path: string): number | undefined {
  try {
    return tree.attributes(tree.realPath(byteStringFromText(path)).ino).mode & fileTypeMask;
  } catch (error) {
    if (error instanceof ErrnoError) return undefined;
    throw error;
  }
}

type Place =
  | { readonly kind: "none" | "other" }
  | { readonly kind: "directory"; readonly denied: string | undefined };

/** What the container has at `path`, and why the user cannot write there. */
function placeFor(subject: Subject, path: string): Place {
  const { view, tree, access, userText } = subject;
  try {
    const found = tree.attributes(view.realPath(byteStringFromText(path)).ino);
    if ((found.mode & fileTypeMask) !== fileTypes.directory) return { kind: "other" };
    const mayWrite = mayAccess(access, found, "write") && mayAccess(access, found, "execute");
    const denied = mayWrite ? undefined : `${userText} may not write there (${ownerText(found)})`;
    return { kind: "directory", denied };
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    if (error.errnoName === "EACCES")
      return { kind: "directory", denied: `${userText} cannot get there: ${error.message}` };
    return { kind: "none" };
  }
}

function workingDirectory(subject: Subject): Finding[] {
  const given = subject.start.workdir ?? subject.config.workingDir;
  const path = displayText(subject.workingDir);
  if (subject.workingDir === "/proc" || /^\/+proc(\/|$)/.test(subject.workingDir))
    return [
      fail(
        path,
        "in /proc, which could lead out of the container: skim refuses it",
        "choose another (--workdir)",
      ),
    ];
  if (subject.start.workdir !== undefined && !given.startsWith("/"))
    return [fail(JSON.stringify(given), "not an absolute path", "give one (--workdir /...)")];
  const place = placeFor(subject, path);
  // What is no directory, and cannot become one, is said by "directory".
  if (place.kind !== "directory") return [];
  if (!place.denied) return [ok(`${subject.userText} may write there`, path)];
  // Nobody has chosen it.
  if (given === "" || given === "/") return [ok(`${place.denied}, as in most images`, path)];
  return [
    denied(subject, path, place.denied, "chown it when the image is built, or choose another (--workdir)"),
  ];
}

function home(subject: Subject): Finding[] {
  const path = displayText(byteStringFromText(subject.home));
  if (!subject.home.startsWith("/"))
    return [warn(JSON.stringify(subject.home), "HOME is no absolute path", "set it (--env HOME=/...)")];
  const place = placeFor(subject, subject.home);
  const advice =
    "make it when the image is built, or set HOME to a directory of the user's (--env HOME=/tmp)";
  if (place.kind === "directory" && !place.denied) return [ok(`${subject.userText} may write there`, path)];
  // What Debian gives users that have no home, and what is taken for one that is not listed.
  if (/^\/nonexistent$/.test(subject.home)) return [ok("a user without a home, by intention", path)];
  if (subject.home === "/" && place.kind === "directory")
    return [ok(`${place.denied}, as in most images`, path)];
  if (place.kind === "other")
    return [warn(path, "not a directory: programs that keep settings there fail", advice)];
  if (place.kind === "directory") return [warn(path, place.denied!, advice)];
  const parent = placeFor(subject, directoryOf(byteStringFromText(subject.home)));
  if (parent.kind === "directory" && !parent.denied)
    return [ok(`not in the image, and ${subject.userText} may make it`, path)];
  return [warn(path, `not in the image, and ${subject.userText} cannot make it`, advice)];
}

function temporaryFiles(subject: Subject): Finding[] {
  const place = placeFor(subject, "/tmp");
  if (place.kind !== "directory") return [];
  if (!place.denied) return [ok(`${subject.userText} may write there`, "/tmp")];
  return [denied(subject, "/tmp", place.denied, "chmod 1777 /tmp when the image is built")];
}

/** A failure only for who is going to write there. */
function denied(subject: Subject, path: string, detail: string, fix: string): Finding {
  const { toolProfile } = subject.start;
  return toolProfile && writingProfiles.includes(toolProfile)
    ? fail(path, `${detail}, and --profile ${toolProfile} does`, fix)
    : warn(path, detail, fix);
}
