/**
 * Who a container's process runs as: USER of an image or of the command line, looked up in the container's own passwd and group.
 *
 * The rules are those of docker and runc (libcontainer/user, GetExecUser): `user[:group]`, each a name or a number; a number need not be
 * listed; supplementary groups only where no group is named. Unlike some, an unknown name is never root. Files: passwd(5),
 * group(5). They come from an image, so a line of any other form is skipped.
 */
import { SkimError } from "../base/errors.js";

/** The text of /etc/passwd and /etc/group, undefined where there is none. */
export interface Accounts {
  readonly passwd?: string | undefined;
  readonly group?: string | undefined;
}

export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  /** The primary group too: without it a process could drop it and pass a file that is closed to that group (CVE-2022-36109). */
  readonly additionalGids: readonly number[];
  readonly home: string;
}

/** (uid_t) -1 means "no change" to the kernel. */
const idMax = 0xffff_fffe;

/**
 * Looks up `user`; empty is root. `origin` says where it was given, for the message and the code of the error: USAGE for the
 * caller's, IMAGE_INVALID for the image's.
 */
export function resolveUser(user: string, accounts: Accounts, origin: "image" | "option"): ContainerUser {
  const [userPart, groupPart] = splitUser(user);
  const uidGiven = userPart === "" ? 0 : numericId(userPart);
  let found: PasswdLine | undefined;
  for (const line of passwdLines(accounts.passwd)) {
    // Digits are a number, also where somebody is named so: an image must not make `--user 1001` root.
    if (uidGiven === undefined ? line.name === userPart : line.uid === uidGiven) {
      found = line;
      break;
    }
  }
  const uid = found?.uid ?? uidGiven;
  if (uid === undefined)
    throw refuse(user, `user ${JSON.stringify(userPart)}`, "passwd", accounts.passwd, origin);
  const home = found?.home || "/";
  if (groupPart !== "") {
    const gid = resolveGroup(user, groupPart, accounts, origin);
    return { uid, gid, additionalGids: [gid], home };
  }
  const gid = found?.gid ?? 0;
  const gids = new Set([gid]);
  if (found) {
    for (const line of groupLines(accounts.group)) if (line.members.includes(found.name)) gids.add(line.gid);
  }
  return { uid, gid, additionalGids: [...gids], home };
}

function resolveGroup(user: string, group: string, accounts: Accounts, origin: "image" | "option"): number {
  const gidGiven = numericId(group);
  if (gidGiven !== undefined) return gidGiven;
  for (const line of groupLines(accounts.group)) if (line.name === group) return line.gid;
  throw refuse(user, `group ${JSON.stringify(group)}`, "group", accounts.group, origin);
}

function splitUser(user: string): [user: string, group: string] {
  const colon = user.indexOf(":");
  return colon < 0 ? [user, ""] : [user.slice(0, colon), user.slice(colon + 1)];
}

function refuse(
  user: string,
  what: string,
  file: "passwd" | "group",
  text: string | undefined,
  origin: "image" | "option",
): SkimError {
  const found = text === undefined ? ", which it does not have" : "";
  const whose = origin === "image" ? "the image's" : "the container's";
  return new SkimError(
    origin === "image" ? "IMAGE_INVALID" : "USAGE",
    `cannot run as ${JSON.stringify(user)}: ${what} is not in ${whose} /etc/${file}${found}; name one that is, or give a number (--user)`,
  );
}

interface PasswdLine {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** name:password:uid:gid:comment:home:shell */
function* passwdLines(text: string | undefined): Generator<PasswdLine> {
  for (const fields of accountFields(text)) {
    const uid = numericId(fields[2] ?? "");
    const gid = numericId(fields[3] ?? "");
    if (uid === undefined || gid === undefined) continue;
    yield { name: fields[0]!, uid, gid, home: fields[5]?.startsWith("/") ? fields[5] : "" };
  }
}

/** name:password:gid:member,member,... */
function* groupLines(text: string | undefined): Generator<{ name: string; gid: number; members: string[] }> {
  for (const fields of accountFields(text)) {
    const gid = numericId(fields[2] ?? "");
    if (gid !== undefined) yield { name: fields[0]!, gid, members: (fields[3] ?? "").split(",") };
  }
}

/** Fields of each line; not of comments, nor of NIS entries (`+`, `-`), which would have to be looked up elsewhere. */
function* accountFields(text = ""): Generator<string[]> {
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf("\n", start);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(start, end).trim();
    start = end + 1;
    if (line !== "" && !/^[#+:-]/.test(line)) yield line.split(":");
  }
}

function numericId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= idMax ? id : undefined;
}
