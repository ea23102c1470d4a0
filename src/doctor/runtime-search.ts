/**
 * Where runtimes look for a command otherwise than execvp(3), as seen of runc 1.1, crun 1.8 and runsc 2022-12. An empty PATH is no directory for any of them.
 * runc, a Go program, refuses a hit by a relative entry of PATH (exec.ErrDot since Go 1.19), and until Go 1.20, which runc 1.1 of Debian 12 is older than, takes the
 * first thing with any execute bit, whoever may execute it. crun takes relative entries, and the first file with an execute bit. runsc passes over relative entries, and crun over
 * empty ones. A loop of symlinks, and what is neither file nor directory, ends the search of runsc.
 */
import { type ByteString, displayText } from "../base/byte-string.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { type FileAttributes, fileTypeMask, fileTypes } from "../filesystem/file-attributes.js";
import { joined } from "../program/program-image.js";
import { ownerText } from "./access.js";
import { type Finding, fail, warn } from "./check.js";
import { kernelSays } from "./reasons.js";
import type { Subject } from "./subject.js";

/** What a runtime will say of a command that is found along PATH; undefined where it takes the same file. */
export function runtimeSearchProblem(
  subject: Subject,
): { readonly kind: "entrypoint" | "executable"; readonly finding: Finding } | undefined {
  const { command } = subject;
  const name = command?.args[0];
  if (!command || !name || name.includes("/")) return undefined;
  const path = command.env.find((one) => one.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  // For execvp(3) it is the working directory.
  if (path === "")
    return {
      kind: "entrypoint",
      finding: fail(
        displayText(name),
        'PATH is empty (the runtime will say "executable file not found in $PATH")',
        "name it with its path, or set PATH (--env)",
      ),
    };
  const runtime = subject.start.runtime ?? "runc";
  const entries = path.split(":");
  for (const entry of entries) {
    const directory = (entry || ".") as ByteString;
    const isRelative = !directory.startsWith("/");
    const at = joined(joined(command.directory, directory), name);
    const found = runnable(subject, at);
    const isFile = found && (found.mode & fileTypeMask) === fileTypes.file;
    const isPassedOver =
      (runtime === "runsc" && isRelative) || (runtime === "crun" && (entry === "" || !isFile));
    if (runtime === "runsc" && !isRelative && isLoop(subject, at)) return endsSearch(at, "ELOOP");
    if (!found || isPassedOver) continue;
    if (runtime === "runc" && isRelative)
      return {
        kind: "entrypoint",
        finding: fail(
          displayText(name),
          `found by the relative entry ${JSON.stringify(entry)} of PATH (runc will say "cannot run executable found relative to current directory")`,
          `name it with its path (./${displayText(name)}), or take the entry out of PATH (--env)`,
        ),
      };
    if (!isFile) return endsSearch(at, "EACCES");
    if (runtime === "runsc" || subject.programs.find(at).file?.executable) return undefined;
    return {
      kind: "executable",
      finding: warn(
        displayText(at),
        `stands before another ${displayText(name)} on PATH, and ${subject.userText} may not execute it (${ownerText(found)}): crun, and runc before 1.2, take it all the same (the kernel will say "permission denied")`,
        "name the command with its path, or give it execute permission",
      ),
    };
  }
  if (runtime === "runc") return undefined;
  return {
    kind: "entrypoint",
    finding: fail(
      displayText(name),
      `found only by entries of PATH that ${runtime} passes over, relative or empty ones (it will say that it did not find it)`,
      `name it with its path (./${displayText(name)}), or take the entry out of PATH (--env)`,
    ),
  };
}

function endsSearch(path: ByteString, why: "EACCES" | "ELOOP") {
  const what = why === "EACCES" ? "neither a file nor a directory" : "symlinks that lead in a circle";
  return {
    kind: "executable" as const,
    finding: fail(
      displayText(path),
      `${what}, and first on PATH ${kernelSays(why)}`,
      "name the command with its path, or take it away",
    ),
  };
}

function isLoop(subject: Subject, path: ByteString): boolean {
  const { file, ...none } = subject.programs.find(path);
  return !file && "why" in none && none.why === "ELOOP";
}

/** What is at `path` for a runtime: anything but a directory that has an execute bit. */
export function runnable(subject: Subject, path: ByteString): FileAttributes | undefined {
  try {
    const found = subject.tree.attributes(subject.view.realPath(path).ino);
    const isDirectory = (found.mode & fileTypeMask) === fileTypes.directory;
    return isDirectory || (found.mode & 0o111) === 0 ? undefined : found;
  } catch (error) {
    if (error instanceof ErrnoError) return undefined;
    throw error;
  }
}
