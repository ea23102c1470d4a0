/**
 * The command line of the commands that start a container, or join one (scripts/boot.cjs chooses it): a bundle without the others, which a start would have to read with its own.
 */
import { addBundleCommand } from "./commands/bundle.js";
import { runCommandLine } from "./commands/command-line.js";
import { addExecCommand } from "./commands/exec.js";
import { addMountCommand, addUmountCommand } from "./commands/mount.js";
import { addRootfsCommand } from "./commands/rootfs.js";
import { addRunCommand } from "./commands/run.js";

void runCommandLine({
  mount: addMountCommand,
  umount: addUmountCommand,
  rootfs: addRootfsCommand,
  bundle: addBundleCommand,
  run: addRunCommand,
  exec: addExecCommand,
});
