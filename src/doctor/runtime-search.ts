/**
 * Where runtimes look for a command otherwise than execvp(3). runc and runsc are Go programs: a hit by a relative entry of PATH is refused since Go 1.19
 * (exec.ErrDot), and until Go 1.20, which runc 1.1 of Debian 12 is older than, the first file with any execute bit is taken, whoever may execute it.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { joined } from "../program/program-image.js";
import { ownerText } from "./access.js";
import { type Finding, fail, warn } from "./check.js";
import type { Subject } from "./subject.js";

/** What a runtime will say of a command that is found along PATH; undefined where it takes the same file. */
export function runtimeSearchProblem(
  subject: Subject,
): { readonly kind: "entrypoint" | "executable"; readonly finding: Finding } | undefined {
  const { command } = subject;
  const name = command?.args[0];
  if (!command || !name || name.includes("/")) return undefined;
  const path = command.env.find((one) => one.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  for (const entry of path.split(":")) {
    const directory = (entry || ".") as ByteString;
    const at = joined(joined(command.directory, directory), name);
    const { file } = subject.programs.find(at);
    const found = file && subject.tree.attributes(file.ino);
    if (!found || (found.mode & 0o111) === 0) continue;
    if (!directory.startsWith("/"))
      return {
        kind: "entrypoint",
        finding: fail(
          displayText(name),
          `found by the relative entry ${JSON.stringify(entry)} of PATH (the runtime will say "cannot run executable found relative to current directory")`,
          `name it with its path (./${displayText(name)}), or take the entry out of PATH (--env)`,
        ),
      };
    if (file.executable) return undefined;
    return {
      kind: "executable",
      finding: warn(
        displayText(at),
        `stands before another ${displayText(name)} on PATH, and ${subject.userText} may not execute it (${ownerText(found)}): runc before 1.2 takes it all the same (it will say "permission denied")`,
        "name the command with its path, or give it execute permission",
      ),
    };
  }
  return undefined;
}
