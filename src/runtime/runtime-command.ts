/**
 * How each container runtime is called and how it says that a start failed: the only place that tells them apart.
 *
 * runc writes the pid file once the process runs; without it the start failed and the log has the reason. runsc writes the pid file
 * earlier, but the reason of a failed run begins with "running container:". Both put the program's streams and their own last
 * words on the same standard error, so only the log can be trusted. Seen with runc 1.1 and runsc 2022-12.
 */
import { execFile } from "node:child_process";
import { access, constants, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { SkimError, systemErrorCode } from "../base/errors.js";

const execute = promisify(execFile);

export type RuntimeName = "runc" | "runsc";

/** What one invocation is about. */
export interface RuntimeCall {
  readonly stateDir: string;
  readonly bundle: string;
  readonly logFile: string;
}

export interface RuntimeKind {
  readonly name: RuntimeName;
  /** Debian package that brings it. */
  readonly package: string;
  /** Options before the subcommand. */
  globalOptions(call: RuntimeCall): Promise<string[]>;
  /** `run` in the foreground hands signals to the container's first process; otherwise `kill` has to. */
  readonly forwardsSignals: boolean;
  /** True where the state dir has an entry with this name for container `id`. */
  isState(entry: string, id: string): boolean;
  /** Why the start failed, from the messages of the log; undefined where the process was started. */
  startFailure(messages: readonly string[], pidFileWritten: boolean): string | undefined;
}

const logOptions = (call: RuntimeCall) => [
  "--root",
  call.stateDir,
  "--log",
  call.logFile,
  "--log-format",
  "json",
];

export const runtimeKinds: Readonly<Record<RuntimeName, RuntimeKind>> = {
  runc: {
    name: "runc",
    package: "runc",
    globalOptions: async (call) => logOptions(call),
    forwardsSignals: true,
    isState: (entry, id) => entry === id,
    startFailure(messages, pidFileWritten) {
      if (pidFileWritten) return undefined;
      return (messages.at(-1) ?? "it gave no reason").replace(/^runc run failed: /, "");
    },
  },
  runsc: {
    name: "runsc",
    package: "runsc",
    async globalOptions(call) {
      return [
        ...logOptions(call),
        ...(await platformOptions()),
        `--network=${await bundleNetwork(call.bundle)}`,
      ];
    },
    forwardsSignals: false,
    isState: (entry, id) => entry === `${id}_sandbox:${id}.state`,
    startFailure(messages) {
      const at = messages.findIndex((message) => message.startsWith("running container:"));
      if (at < 0) return undefined;
      // Where the sandbox died, the reason is the first message, and the last only says that it died.
      const told = messages[at]!.replace(/^running container: /, "");
      return at > 0 ? `${told} (${messages[0]})` : told;
    },
  },
};

/**
 * 127 or 126 where the reason of a failed start is that the command is not there or cannot be executed, as shells and docker have
 * it; undefined for every other reason.
 */
export function commandExitCode(reason: string): 126 | 127 | undefined {
  const aboutCommand =
    /^(unable to start container process: )?(error during container init: )?exec:? |error finding executable |failed to load /.test(
      reason,
    );
  if (!aboutCommand) return undefined;
  if (/not found in \$PATH|error finding executable|no such file or directory/.test(reason)) return 127;
  return /permission denied|exec format error|is a directory/.test(reason) ? 126 : undefined;
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
  const entries = await readdir(stateDir).catch((error) => {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw new SkimError("LOCAL_IO", `state of ${kind.name} in ${stateDir} cannot be read`, { cause: error });
  });
  return entries.some((entry) => kind.isState(entry, id));
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

/** Releases without the systrap platform default to ptrace or KVM; of these ptrace works on every machine. */
async function platformOptions(): Promise<string[]> {
  const flags = await execute("runsc", ["flags"]).then(
    ({ stdout, stderr }) => stdout + stderr,
    (error) => {
      if (systemErrorCode(error) === "ENOENT") throw missingRuntime(runtimeKinds.runsc, error);
      return "";
    },
  );
  return flags.includes("systrap") ? [] : ["--platform=ptrace"];
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
