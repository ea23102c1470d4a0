/** How skim-files is started, and reached: on the host, in the mount namespace of a container or below a directory; and inside of a sandbox. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { describeError } from "../base/errors.js";
import { filesProgram } from "../native/files-program.js";
import { execInContainer } from "../runtime/container-exec.js";
import type { ContainerIdentity } from "../runtime/container-lifecycle.js";
import { sandboxFilesProgram } from "../runtime/files-mount.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";

export interface FilesTransport {
  readonly input: Writable;
  readonly output: Readable;
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
  return transportOf(spawn(filesProgram(), ["--token", token, ...where], spawnOptions()));
}

/** Sees what is below a directory of this host. Throws what open(2) says. */
export function startBelow(directory: string, token: string): FilesTransport {
  const descriptor = openSync(directory, "r");
  try {
    const args = ["--token", token, "--descriptor", "3"];
    return transportOf(spawn(filesProgram(), args, spawnOptions(descriptor)));
  } finally {
    closeSync(descriptor);
  }
}

/** Nothing of this process's environment: the program has no use for it. */
function spawnOptions(descriptor?: number) {
  const streams = ["pipe", "pipe", "pipe"] as const;
  return {
    stdio: descriptor === undefined ? [...streams] : [...streams, descriptor],
    env: {},
    cwd: "/",
    // A Ctrl-C is for this process, which ends the program in its own way.
    detached: true,
  };
}

function transportOf(child: ChildProcess): FilesTransport {
  let said = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-1000);
  });
  // Its end is told by `ended`.
  child.stdin!.on("error", () => {});
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(describeError(error)));
    child.once("close", (code, signal) =>
      resolve([signal ?? `exit code ${code}`, said.trim()].filter(Boolean).join(", ")),
    );
  });
  return { input: child.stdin!, output: child.stdout!, ended, kill: () => void child.kill("SIGKILL") };
}

/** Sees what a process sees that the runtime starts in a sandbox: as root, whatever the container's user is. */
export function startInSandbox(
  container: ContainerIdentity,
  first: RuntimeSpec["process"],
  directory: string,
  token: string,
): FilesTransport {
  const input = new PassThrough();
  const output = new PassThrough();
  const stderr = new PassThrough();
  let said = "";
  stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-1000);
  });
  const abort = new AbortController();
  const { bounding } = first.capabilities;
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
      capabilities: { bounding, effective: bounding, permitted: bounding },
    },
    stdio: { stdin: input, stdout: output, stderr },
    signal: abort.signal,
    forwardSignals: false,
  })
    .then(({ exitCode, startFailure }) => startFailure ?? `exit code ${exitCode}`, describeError)
    .then((how) => {
      // Nobody else ends it: streams of a container's process are their caller's.
      output.end();
      input.destroy();
      return [how, said.trim()].filter(Boolean).join(", ");
    });
  return { input, output, ended, kill: () => abort.abort() };
}
