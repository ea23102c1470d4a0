/**
 * The command line of `skim cp` and `skim fs` (scripts/boot.cjs chooses it): a bundle without the other commands, whose code would take more memory than a copy of any size
 * does.
 */
import { runCommandLine } from "./commands/command-line.js";
import { addCpCommand } from "./commands/cp.js";
import { addFsCommand } from "./commands/fs.js";

void runCommandLine({ cp: addCpCommand, fs: addFsCommand });
