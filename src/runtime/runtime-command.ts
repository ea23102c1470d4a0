/**
 * How each container runtime is called and how it says that a start failed: the only place that tells them apart.
 *
 * Without the pid file the start failed and the log has the reason. runc and crun write it once the process runs; runsc
 * earlier, but the reason of a run that fails later begins with "running container:". All put the program's streams and their own last
 * words on the same standard error, so only the log can be trusted. Seen with runc 1.1, crun 1.8 and runsc 2022-12.
 */
import { execFile } from "node:child_process";
import { access, constants, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { crunPrefix } from "./crun-host.js";
import { killTree } from "./process-tree.js";
import { type RunscOverlay, readRunscFeatures, runscOverlayFlag } from "./runsc-features.js";

const execute = promisify(execFile);

export const runtimeNames = ["runc", "crun", "runsc"] as const;
export type RuntimeName = (typeof runtimeNames)[number];

/** What one invocation is about. */
export interface RuntimeCall {
  readonly stateDir: string;
  readonly logFile: string;
}

/** What a container is made of. */
export interface StartCall {
  readonly bundle: string;
  /** Only for runsc. Default: none of its own. */
  readonly runscOverlay?: RunscOverlay;
}

export interface RuntimeKind {
  readonly name: RuntimeName;
  /** Debian package that brings it. */
  readonly package: string;
  /** What is executed before the program itself. */
  prefix(): Promise<readonly string[]>;
  /** Options before `run`, `create` and `start`, besides those of every call. */
  startOptions(call: StartCall): Promise<string[]>;
  /** `run` and `exec` in the foreground hand signals to their process; otherwise `kill` has to. */
  readonly forwardsSignals: boolean;
  /**
   * Standard streams that are regular files are read and written at offsets of its own, from the start on: what others wrote to the same
   * open file before would be written over.
   */
  readonly keepsFileOffsets: boolean;
  /** `exec` writes the pid that its process has inside the container with this option: there is none outside. */
  readonly innerPidOption?: string;
  /** Names in the state dir that belong to container `id`: it exists where the first does. */
  stateEntries(id: string): readonly [string, ...string[]];
  /** The file below the state dir in which the runtime has the container's processes. */
  stateFile(id: string): string;
  /** Why `run` or `create` failed, from the messages of the log; undefined where the process was started. */
  startFailure(messages: readonly string[], pidFileWritten: boolean): string | undefined;
  /** The same of `exec`. */
  execFailure(messages: readonly string[], pidFileWritten: boolean): string | undefined;
}

const noReason = "it gave no reason";

/** Program and arguments of `subcommand`, with its log in a file of its own. Throws ENVIRONMENT where the runtime is not installed. */
export async function commandOf(
  kind: RuntimeKind,
  call: RuntimeCall,
  startOptions: readonly string[],
  subcommand: readonly string[],
): Promise<[program: string, args: string[]]> {
  const log = ["--root", call.stateDir, "--log", call.logFile, "--log-format", "json"];
  const [program, ...args] = [...(await kind.prefix()), kind.name, ...log, ...startOptions, ...subcommand];
  return [program!, args];
}

/**
 * How long a call may take that starts nothing, ms. Runtimes wait themselves for what they have killed, runc ten seconds and runsc five; a sandbox of runsc
 * that hangs is waited for without end.
 */
const callLimitMs = 15_000;

export interface CallOptions {
  readonly startOptions?: readonly string[];
  /** Ends the call, which is killed. Default: after `callLimitMs`. */
  readonly signal?: AbortSignal;
}

/** Calls a subcommand and resolves to its standard output. Rejects as execFile does, and with RUNTIME_FAILED where it was ended. */
export async function callRuntime(
  kind: RuntimeKind,
  stateDir: string,
  subcommand: readonly string[],
  { startOptions = [], signal = AbortSignal.timeout(callLimitMs) }: CallOptions = {},
): Promise<string> {
  const own = ["--root", stateDir, ...startOptions, ...subcommand];
  const [program, ...args] = [...(await kind.prefix()), kind.name, ...own];
  const called = execute(program!, args);
  const { child } = called;
  let giveUp = () => {};
  // Not with execFile's own signal: it would wait for the streams, which what the runtime has started may have as well.
  const givenUp = new Promise<never>((_, reject) => {
    giveUp = async () => {
      if (child.pid !== undefined) await killTree(child.pid);
      const told = `${kind.name} ${subcommand[0]} hangs, and was killed`;
      reject(new SkimError("RUNTIME_FAILED", told, { cause: signal.reason }));
    };
  });
  if (signal.aborted) giveUp();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const { stdout } = await Promise.race([called, givenUp]);
    return stdout;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

export const runtimeKinds: Readonly<Record<RuntimeName, RuntimeKind>> = {
  runc: {
    name: "runc",
    package: "runc",
    prefix: async () => [],
    startOptions: async () => [],
    forwardsSignals: true,
    keepsFileOffsets: false,
    stateEntries: (id) => [id],
    stateFile: (id) => `${id}/state.json`,
    startFailure(messages, pidFileWritten) {
      if (pidFileWritten) return undefined;
      return (messages.at(-1) ?? noReason).replace(/^runc (run|create) failed: /, "");
    },
    execFailure: (messages, pidFileWritten) =>
      pidFileWritten ? undefined : (messages.at(-1) ?? noReason).replace(/^exec failed: /, ""),
  },
  crun: {
    name: "crun",
    package: "crun",
    async prefix() {
      await requireRuntime("crun");
      return await crunPrefix();
    },
    startOptions: async () => [],
    forwardsSignals: true,
    keepsFileOffsets: false,
    stateEntries: (id) => [id],
    stateFile: (id) => `${id}/status`,
    startFailure: (messages, pidFileWritten) => (pidFileWritten ? undefined : (messages.at(-1) ?? noReason)),
    execFailure: (messages, pidFileWritten) => (pidFileWritten ? undefined : (messages.at(-1) ?? noReason)),
  },
  runsc: {
    name: "runsc",
    package: "runsc",
    prefix: async () => [],
    async startOptions(call) {
      const features = await readRunscFeatures().catch((error: unknown) => {
        throw systemErrorCode(error) === "ENOENT" ? missingRuntime(runtimeKinds.runsc, error) : error;
      });
      return [
        // Releases without the systrap platform default to ptrace or KVM; of these ptrace works on every machine.
        ...(features.platforms.includes("systrap") ? [] : ["--platform=ptrace"]),
        `--network=${await bundleNetwork(call.bundle)}`,
        runscOverlayFlag(features, call.runscOverlay ?? { kind: "none" }),
      ];
    },
    forwardsSignals: false,
    keepsFileOffsets: true,
    innerPidOption: "--internal-pid-file",
    // The last is the sandbox's control socket in later releases; 2022-12 has none in the file system.
    stateEntries: (id) => [`${id}_sandbox:${id}.state`, `${id}_sandbox:${id}.lock`, `runsc-${id}.sock`],
    stateFile: (id) => `${id}_sandbox:${id}.state`,
    startFailure(messages, pidFileWritten) {
      const failure = /^(running|creating) container: /;
      const at = messages.findIndex((message) => failure.test(message));
      if (at < 0) return pidFileWritten ? undefined : (messages.at(-1) ?? noReason);
      // Where the sandbox died, the reason is the first message, and the last only says that it died.
      const told = messages[at]!.replace(failure, "");
      return at > 0 ? `${told} (${messages[0]})` : told;
    },
    execFailure(messages, pidFileWritten) {
      if (pidFileWritten) return undefined;
      // Where its streams are sockets, gVisor shuts them down with the process that it could not load, and runsc ends at its first word
      // about that (SIGPIPE), before it writes to the log.
      return (
        messages.at(-1) ?? "failed to load it: permission denied or no program, runsc does not say"
      ).replace(/^executing processes for container: /, "");
    },
  },
};

/**
 * 127 or 126 where the reason of a failed start is that the command is not there or cannot be executed, as shells and docker have
 * it; undefined for every other reason.
 */
export function commandExitCode(reason: string): 126 | 127 | undefined {
  const about = reason.replace(/^executing command ".*?" in sandbox: /, "");
  const aboutCommand =
    /^(unable to start container process: )?(error during container init: )?exec:? |error finding executable |failed to load |^executable file `|^open executable: |^exec container process /.test(
      about,
    );
  if (!aboutCommand) return undefined;
  if (/not found in \$PATH|error finding executable|no such file or directory/i.test(about)) return 127;
  return /permission denied|operation not permitted|exec format error|is a directory/i.test(about)
    ? 126
    : undefined;
}

/** runsc does not end its records with a newline; inside a string its quotes would be escaped. */
const recordEnd = /\n|(?<=\})(?=\{"(?:msg|level|time)":)/;

/** Messages of level error and above, in their order. A log that is not there is empty. */
export async function readRuntimeErrors(logFile: string): Promise<string[]> {
  const text = await readFile(logFile, "utf8").catch(() => "");
  return text.split(recordEnd).flatMap((line) => {
    try {
      const record = JSON.parse(line) as { level?: unknown; msg?: unknown };
      const serious = ["error", "fatal", "panic"].includes(String(record.level));
      return serious && typeof record.msg === "string" ? [record.msg] : [];
    } catch {
      return [];
    }
  });
}

/** True where the runtime knows a container `id`. */
export async function hasState(kind: RuntimeKind, stateDir: string, id: string): Promise<boolean> {
  try {
    await access(path.join(stateDir, kind.stateEntries(id)[0]));
    return true;
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return false;
    throw new SkimError("LOCAL_IO", `state of ${kind.name} in ${stateDir} cannot be read`, { cause });
  }
}

/** Throws ENVIRONMENT where no program of that name is on the PATH: better before anything is mounted for it. */
export async function requireRuntime(name: RuntimeName): Promise<void> {
  for (const directory of (process.env.PATH ?? "").split(path.delimiter)) {
    const found = await access(path.join(directory || ".", name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return;
  }
  throw missingRuntime(runtimeKinds[name], undefined);
}

export function missingRuntime(kind: RuntimeKind, cause: unknown): SkimError {
  return new SkimError("ENVIRONMENT", `${kind.name} is not installed; apt-get install -y ${kind.package}`, {
    cause,
  });
}

/** runsc takes the network from the command line, not from the namespaces of the bundle. */
async function bundleNetwork(bundle: string): Promise<"host" | "none"> {
  const file = path.join(bundle, "config.json");
  try {
    const spec = JSON.parse(await readFile(file, "utf8")) as { linux?: { namespaces?: { type?: string }[] } };
    return spec.linux?.namespaces?.some((namespace) => namespace.type === "network") ? "none" : "host";
  } catch (cause) {
    throw new SkimError("RUNTIME_FAILED", `bundle ${bundle} has no config.json that can be read`, { cause });
  }
}
