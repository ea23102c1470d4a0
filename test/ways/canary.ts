/** Files of the host that no image may touch, next to where images are unpacked, and all that would show if one did. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { realpath } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { makeTempDir } from "../support/temp-dir.js";

export interface Canary {
  /** The directory of canary and destinations, as an absolute path without links. */
  readonly room: string;
  /** `room`/canary, where the files are. */
  readonly canary: string;
  /** Every name in the canary directory with its inode, attributes, times (that of the last change among them) and content. */
  state(): Record<string, unknown>;
}

/** Goes with the test file. */
export async function makeCanary(): Promise<Canary> {
  const room = await realpath(await makeTempDir("canary"));
  const canary = path.join(room, "canary");
  mkdirSync(path.join(canary, "sub"), { recursive: true });
  mkdirSync(path.join(canary, "empty"), { mode: 0o1777 });
  for (const name of ["hello", "w", "sub/deep", "sub/w"])
    writeFileSync(path.join(canary, name), `canary ${name}`);
  symlinkSync("hello", path.join(canary, "link"));
  await promisify(execFile)("mkfifo", [path.join(canary, "fifo")]);
  return { room, canary, state: () => stateOf(canary) };
}

/** No access times: to look at a file is no harm, and this does it. */
function stateOf(top: string): Record<string, unknown> {
  const state: Record<string, unknown> = {};
  for (const name of ["", ...(readdirSync(top, { recursive: true }) as string[]).sort()]) {
    const file = path.join(top, name);
    const { ino, mode, uid, gid, nlink, size, mtimeNs, ctimeNs } = lstatSync(file, { bigint: true });
    const stat = lstatSync(file);
    const content = stat.isSymbolicLink()
      ? readlinkSync(file)
      : stat.isFile() && createHash("sha256").update(readFileSync(file)).digest("hex");
    state[name] = { ino, mode, uid, gid, nlink, size, mtimeNs, ctimeNs, content };
  }
  return state;
}
