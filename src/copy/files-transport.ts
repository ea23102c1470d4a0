/** How skim-files is started, and reached: on the host, in the mount namespace of a container or below a directory; and inside of a sandbox. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { describeError } from "../base/errors.js";
import { filesProgram } from "../native/files-program.js";
import { loadNative } from "../native/load.js";
import { execInContainer } from "../runtime/container-exec.js";
import type { ContainerIdentity } from "../runtime/container-lifecycle.js";
import { sandboxFilesProgram } from "../runtime/files-mount.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";
import { DescriptorPieces, type Pieces } from "./descriptor-pieces.js";

export interface FilesTransport {
  readonly input: Writable;
  readonly output: Pieces;
  /** Resolves when the program has ended, to how. */
  readonly ended: Promise<string>;
  kill(): void;
}

/** A process that was looked at: its pid, and when it started (field 22 of /proc/PID/stat). */
export interface PinnedProcess {
  readonly pid: number;
  readonly startTicks: number;
}

/** Sees what the process's mount namespace has. `token` names unfinished files. */
export function startInNamespace(pinned: PinnedProcess, token: string): FilesTransport {
  const where = ["--pid", String(pinned.pid), "--start", String(pinned.startTicks)];
  return startOnHost(["--token", token, ...where]);
}

/** Sees what is below a directory of this host. Throws what open(2) says. */
export function startBelow(directory: string, token: string): FilesTransport {
  const descriptor = openSync(directory, "r");
  try {
    return startOnHost(["--token", token, "--descriptor", "3"], descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function startOnHost(args: readonly string[], descriptor?: number): FilesTransport {
  const [ours, theirs] = loadNative().socketPair(false);
  const child = spawn(filesProgram(), args, {
    stdio: ["pipe", theirs, "pipe", ...(descriptor === undefined ? [] : [descriptor])],
    // Nothing of this process's environment: the program has no use for it.
    env: {},
    cwd: "/",
    // A Ctrl-C is for this process, which ends the program in its own way.
    detached: true,
  });
  closeSync(theirs);
  const said = lastWords(child.stderr!);
  // Its end is told by `ended`.
  child.stdin!.on("error", () => {});
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(describeError(error)));
    child.once("close", (code, signal) =>
      resolve([signal ?? `exit code ${code}`, said()].filter(Boolean).join(", ")),
    );
  });
  const kill = () => void child.kill("SIGKILL");
  return { input: child.stdin!, output: new DescriptorPieces(ours), ended, kill };
}

/** The end of what is written to a program's standard error. */
function lastWords(stderr: Readable): () => string {
  let said = "";
  stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-1000);
  });
  return () => said.trim();
}

/** What files of any owner take. The sandbox itself does without more, and whatever the container has: it may have none of them. */
const capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID"];

/** Sees what a process sees that the runtime starts in a sandbox: as root, whatever the container's user is. */
export function startInSandbox(
  container: ContainerIdentity,
  first: RuntimeSpec["process"],
  directory: string,
  token: string,
): FilesTransport {
  const input = new PassThrough();
  const stderr = new PassThrough();
  const said = lastWords(stderr);
  const [ours, theirs] = loadNative().socketPair(false);
  const abort = new AbortController();
  const ended = execInContainer({
    ...container,
    directory,
    process: {
      ...first,
      terminal: false,
      user: { uid: 0, gid: 0, additionalGids: [] },
      args: [sandboxFilesProgram, "--token", token, "--inside"],
      env: [],
      cwd: "/",
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    stdio: { stdin: input, stdout: theirs, stderr },
    signal: abort.signal,
    forwardSignals: false,
  })
    .then(({ exitCode, startFailure }) => startFailure ?? `exit code ${exitCode}`, describeError)
    .then((how) => {
      closeSync(theirs);
      // Nobody else ends it: streams of a container's process are their caller's.
      input.destroy();
      return [how, said()].filter(Boolean).join(", ");
    });
  return { input, output: new DescriptorPieces(ours), ended, kill: () => abort.abort() };
}
