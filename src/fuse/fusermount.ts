/**
 * Mounting and unmounting with the setuid program of libfuse, for processes that may not do so themselves (fusermount3(1)).
 *
 * It mounts, and sends the descriptor of /dev/fuse through the socket whose number is in the environment.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { promisify } from "node:util";
import { SkimError } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";

/** The third descriptor of the child, behind the standard ones. */
const socketNumber = 3;

/** Resolves to the descriptor of /dev/fuse of the new mount. Throws ENVIRONMENT where the program is missing, MOUNT_FAILED with what it said. */
export async function fusermountMount(
  mountpoint: string,
  source: string,
  allowOther: boolean,
  native: Pick<NativeBinding, "socketPair" | "receiveDescriptor">,
): Promise<number> {
  const isRoot = process.geteuid?.() === 0;
  const options = [
    "ro",
    "default_permissions",
    "subtype=skim",
    `fsname=${source.replace(/[\\,]/g, "\\$&")}`,
    ...(allowOther ? ["allow_other"] : []),
    // For anybody else it adds nosuid and nodev, whatever is asked.
    ...(isRoot ? ["suid", "dev"] : []),
  ].join(",");
  const [ours, theirs] = native.socketPair(false);
  try {
    const child = spawn("fusermount3", ["-o", options, "--", mountpoint], {
      stdio: ["ignore", "ignore", "pipe", theirs],
      env: { ...process.env, _FUSE_COMMFD: String(socketNumber) },
    });
    const ended = endOf(child);
    closeSync(theirs);
    const descriptor = await native.receiveDescriptor(ours);
    const said = await ended;
    if (descriptor !== null) return descriptor;
    throw new SkimError(
      "MOUNT_FAILED",
      `cannot mount on ${mountpoint}: ${said || "fusermount3 said nothing"}`,
    );
  } finally {
    closeSync(ours);
  }
}

/** What the program wrote to standard error, once it has ended. */
async function endOf(child: ChildProcess): Promise<string> {
  let said = "";
  child.stderr!.on("data", (text) => {
    said += text;
  });
  return await new Promise((resolve, reject) => {
    child.once("error", (cause) =>
      reject(
        new SkimError(
          "ENVIRONMENT",
          "mounting without root needs fusermount3, which cannot be started; run apt-get install fuse3",
          { cause },
        ),
      ),
    );
    child.once("close", () => resolve(said.trim().replace(/\s*\n\s*/g, "; ")));
  });
}

/** Unmounts as somebody who is not root. False where that fails. */
export async function fusermountUnmount(mountpoint: string, detach: boolean): Promise<boolean> {
  for (const program of ["fusermount3", "fusermount"]) {
    try {
      await promisify(execFile)(program, ["-u", ...(detach ? ["-z"] : []), "--", mountpoint]);
      return true;
    } catch {
      // Not there, or not able to: the next one, then the caller's error.
    }
  }
  return false;
}
