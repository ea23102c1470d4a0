/**
 * What the command line does before it loads itself (scripts/boot.cjs): a mount takes longest for its server's process to come up, so that is started first. A bundle of
 * its own, a few kilobytes; the main one finds the process here.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { startServerProcess } from "./mount/server-process.js";

export { serverProgram, takeServerProcess } from "./mount/server-process.js";

/** Starts a server's process if the arguments look like a mount: a guess, for a process that is started in vain ends with this one. */
export function startEarly(args: readonly string[]): void {
  const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  if (own.some((word) => ["--help", "-h", "--foreground"].includes(word))) return;
  if (own.includes("--no-daemon") || !existsSync(path.join(runDirOf(own), "daemon.sock"))) startFor(own);
}

function startFor(own: readonly string[]): void {
  const command = own.slice(0, 2).join(" ");
  if (/^(run|mount|bundle|rootfs mount|profile record)( |$)/.test(command)) startServerProcess();
}

/** Where a daemon would answer, as far as the command line and environment say: where it is in a settings file, the worst is a process in vain, or one less early. */
function runDirOf(args: readonly string[]): string {
  const at = args.findIndex((word) => word === "--run-dir" || word.startsWith("--run-dir="));
  const given = at < 0 ? undefined : (args[at]!.split("=")[1] ?? args[at + 1]);
  return given ?? process.env.SKIM_RUN_DIR ?? "/run/skim";
}
