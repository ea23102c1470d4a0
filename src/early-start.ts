/**
 * What the command line does before it loads itself (scripts/boot.cjs): a mount takes longest for its server's process to come up, so that is started first. A bundle of
 * its own, a few kilobytes; the main one finds the process here.
 */
import { startServerProcess } from "./mount/server-process.js";

export { serverProgram, takeServerProcess } from "./mount/server-process.js";

/** Starts a server's process if the arguments look like a mount: a guess, for a process that is started in vain ends with this one. */
export function startEarly(args: readonly string[]): void {
  const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  if (own.some((word) => ["--help", "-h", "--foreground"].includes(word))) return;
  const command = own.slice(0, 2).join(" ");
  if (/^(run|mount|bundle|rootfs mount|profile record)( |$)/.test(command)) startServerProcess();
}
