/**
 * The steps of a container's life that every OCI runtime has (runtime-spec, runtime.md): create, start, state, kill, delete. A container that was
 * created belongs to no process: any other one can go on with its identity.
 */
import { type StdioOptions, spawn } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { removeEmptyCgroups } from "./cgroups.js";
import { removeByForce } from "./forced-removal.js";
import type { RunscOverlay } from "./runsc-features.js";
import {
  callRuntime,
  commandOf,
  hasState,
  type RuntimeKind,
  type RuntimeName,
  readRuntimeErrors,
  runtimeKinds,
} from "./runtime-command.js";
import { endRuntime, runtimeError, throwIfAborted, waitForExit } from "./runtime-process.js";

/** Enough to find a container again from another process. */
export interface ContainerIdentity {
  readonly runtime: RuntimeName;
  readonly id: string;
  /** Where the runtime keeps its state: a directory for this runtime alone. */
  readonly stateDir: string;
}

export interface CreateContainerOptions extends ContainerIdentity {
  /** Directory with config.json, whose process has no terminal. */
  readonly bundle: string;
  /** Streams of the container's process, as spawn takes them: descriptors, "ignore" or "inherit". Default: ignored. */
  readonly stdio?: readonly ("ignore" | "inherit" | number)[];
  readonly runscOverlay?: RunscOverlay;
  readonly signal?: AbortSignal;
}

export interface ContainerState {
  readonly status: "creating" | "created" | "running" | "paused" | "stopped";
  /** Of the first process on the host; of the sandbox, under runsc. 0 where there is none (any more). */
  readonly pid: number;
  /** Absolute path. */
  readonly bundle: string;
}

/**
 * Makes a container that waits to be started. Throws RUNTIME_FAILED with the runtime's reason (nothing is left then), IN_USE for an id that is taken,
 * ENVIRONMENT.
 */
export async function createContainer(options: CreateContainerOptions): Promise<void> {
  const { bundle, stateDir, id } = options;
  const kind = runtimeKinds[options.runtime];
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  if (await hasState(kind, stateDir, id)) throw idInUse(id);
  const logFile = path.join(bundle, "runtime.log");
  const pidFile = path.join(bundle, "runtime.pid");
  const call = {
    stateDir,
    bundle,
    logFile,
    ...(options.runscOverlay ? { runscOverlay: options.runscOverlay } : {}),
  };
  const [program, args] = await commandOf(kind, call, await kind.startOptions(call), [
    ...["create", "--bundle", bundle, "--pid-file", pidFile, id],
  ]);
  try {
    // No pipe of ours: the container's process has these streams, and would keep it open.
    const child = spawn(program, args, { stdio: (options.stdio ?? "ignore") as StdioOptions });
    const { signal } = options;
    const exitCode = await waitForExit(kind, child, {
      kill: () => endRuntime(child),
      ...(signal ? { signal } : {}),
    });
    if (signal?.aborted) await destroyContainer(options);
    throwIfAborted(signal, `container ${id}`);
    if (exitCode === 0) return;
    const reason = kind.startFailure(await readRuntimeErrors(logFile), false) ?? "it gave no reason";
    if (/already exists/.test(reason)) throw idInUse(id);
    await destroyContainer(options);
    throw new SkimError("RUNTIME_FAILED", `${kind.name} could not create container ${id}: ${reason}`);
  } finally {
    for (const file of [logFile, pidFile]) await rm(file, { force: true });
  }
}

/** Lets the process of a container run that was created from these options. Throws NOT_FOUND, RUNTIME_FAILED. */
export async function startContainer(options: CreateContainerOptions): Promise<void> {
  const kind = await requireContainer(options);
  try {
    await callRuntime(kind, options.stateDir, ["start", options.id], {
      startOptions: await kind.startOptions(options),
      // It may load the program from far away: how long that takes is for the caller to say.
      signal: options.signal ?? new AbortController().signal,
    });
  } catch (cause) {
    throwIfAborted(options.signal, `the start of container ${options.id}`);
    throw runtimeError(kind, `container ${options.id} cannot be started`, cause);
  }
}

/** Undefined where there is no such container. Throws RUNTIME_FAILED. */
export async function containerState(container: ContainerIdentity): Promise<ContainerState | undefined> {
  const { id, stateDir } = container;
  const kind = runtimeKinds[container.runtime];
  if (!(await hasState(kind, stateDir, id))) return undefined;
  try {
    const state = JSON.parse(await callRuntime(kind, stateDir, ["state", id])) as {
      status: ContainerState["status"];
      pid?: number;
      bundle: string;
    };
    const { status, pid = 0, bundle } = state;
    return { status, pid: status === "stopped" ? 0 : pid, bundle };
  } catch (cause) {
    // Deleted in this moment.
    if (!(await hasState(kind, stateDir, id))) return undefined;
    throw runtimeError(kind, `the state of container ${id} cannot be had`, cause);
  }
}

/** Sends a signal to the first process. Throws NOT_FOUND where no such container runs. */
export async function killContainer(container: ContainerIdentity, signal: NodeJS.Signals): Promise<void> {
  const kind = await requireContainer(container);
  const { id, stateDir } = container;
  try {
    await callRuntime(kind, stateDir, ["kill", id, signal.replace(/^SIG/, "")]);
  } catch (cause) {
    throw runtimeError(kind, `container ${id} cannot be sent ${signal}`, cause);
  }
}

/**
 * Kills what runs and removes everything of the container; one that is not there is fine. Works after a crash, from any process, and where the
 * runtime hangs: it then ends within a minute. Throws RUNTIME_FAILED where a process does not end.
 */
export async function destroyContainer(container: ContainerIdentity): Promise<void> {
  const { id, stateDir } = container;
  const kind = runtimeKinds[container.runtime];
  if (await hasState(kind, stateDir, id)) {
    // What it cannot do is done without it, which also removes what it leaves (runsc the file that it locks).
    await callRuntime(kind, stateDir, ["delete", "--force", id]).catch(() => {});
  }
  await removeByForce(kind, stateDir, id);
  await removeEmptyCgroups(id);
}

/** Throws NOT_FOUND where the runtime knows no such container. */
export async function requireContainer(container: ContainerIdentity): Promise<RuntimeKind> {
  const kind = runtimeKinds[container.runtime];
  if (await hasState(kind, container.stateDir, container.id)) return kind;
  throw new SkimError(
    "NOT_FOUND",
    `${kind.name} has no container ${container.id} in ${container.stateDir}: it is not started yet, or has ended`,
  );
}

export function idInUse(id: string): SkimError {
  return new SkimError("IN_USE", `there is a container ${id} already; use another id, or end that one first`);
}
