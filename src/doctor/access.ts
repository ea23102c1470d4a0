/** What a user may do with a file: the kernel's rules for mode bits (inode_permission(9), acl(5) without ACLs), for a process in a container. */
import type { FileAttributes } from "../filesystem/file-attributes.js";
import { fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";

/** Who asks. */
export interface AccessUser {
  readonly uid: number;
  readonly gids: readonly number[];
}

export const want = { read: 4, write: 2, execute: 1 } as const;
export type Want = keyof typeof want;

type Owned = Pick<FileAttributes, "mode" | "uid" | "gid">;

/** Root has CAP_DAC_OVERRIDE in a container: all but executing a file without any execute bit. */
export function mayAccess(user: AccessUser, { mode, uid, gid }: Owned, wanted: Want): boolean {
  const isDirectory = (mode & fileTypeMask) === fileTypes.directory;
  if (user.uid === 0) return wanted !== "execute" || isDirectory || (mode & 0o111) !== 0;
  const shift = user.uid === uid ? 6 : user.gids.includes(gid) ? 3 : 0;
  return ((mode >> shift) & want[wanted]) !== 0;
}

/** `mode 0750, owner 0:0` */
export function ownerText({ mode, uid, gid }: Owned): string {
  return `mode ${modeText(mode)}, owner ${uid}:${gid}`;
}

/** Permission bits, four octal digits. */
export function modeText(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}
