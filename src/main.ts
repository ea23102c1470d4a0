/** Entry point of the command line. What a mount takes longest for is started before anything else is loaded. */
import { startServerProcess } from "./mount/server-process.js";

if (isGoingToMount(process.argv.slice(2))) startServerProcess();
void import("./cli.js").then(({ runCommandLine }) => runCommandLine());

/** A guess: a process that is started in vain ends with this one. */
function isGoingToMount(args: readonly string[]): boolean {
  const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  if (own.some((word) => ["--help", "-h", "--foreground"].includes(word))) return false;
  const command = own.slice(0, 2).join(" ");
  return /^(run|mount|bundle|rootfs mount|profile record)( |$)/.test(command);
}
