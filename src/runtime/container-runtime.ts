/**
 * runc, crun and runsc behind one interface, for who runs bundles himself: create, start, exec, state, wait, kill, delete. What the three do differently
 * (options, state files, signals, words for failures) is settled here; the bundle may be makeBundle's or any other.
 *
 * Nothing is kept in memory: a container is found by its id in the state directory, by another process as well.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { identifyProcess, isRunning } from "../base/process-identity.js";
import { runContainer } from "./container.js";
import { execInContainer } from "./container-exec.js";
import {
  type ContainerIdentity,
  type ContainerState,
  containerState,
  createContainer,
  destroyContainer,
  killContainer,
  requireContainer,
  startContainer,
} from "./container-lifecycle.js";
import { buildExecProcess, type ExecProcessOptions } from "./exec-process.js";
import type { RunscOverlay } from "./runsc-features.js";
import type { RuntimeName } from "./runtime-command.js";
import { type ContainerExit, type ContainerStreams, throwIfAborted } from "./runtime-process.js";
import type { RuntimeSpec } from "./runtime-spec.js";

export interface ContainerRuntimeOptions {
  readonly name: RuntimeName;
  /** Absolute path of a directory for this runtime alone, made if need be (mode 0700). Best on a tmpfs: after a reboot what is in it is wrong. */
  readonly stateDir: string;
  /** Only for runsc. Default: what containers write is in the bundle's root filesystem. */
  readonly runscOverlay?: RunscOverlay;
}

export interface CreateOptions {
  /** Letters, digits, `-`, `_` and `.`. */
  readonly id: string;
  /** Directory with config.json, whose process has no terminal. */
  readonly bundle: string;
  /** Streams of the first process: descriptors of this one, which it gets, "inherit", or "ignore". Default: ignored. */
  readonly stdio?: readonly ("ignore" | "inherit" | number)[];
  readonly signal?: AbortSignal;
}

export interface RunOptions extends Omit<CreateOptions, "stdio"> {
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
}

export interface ExecOptions extends Omit<ExecProcessOptions, "first" | "accounts"> {
  /** The container's passwd and group, as text, to look up names in `user`. Default: only numbers are known. */
  readonly accounts?: ExecProcessOptions["accounts"];
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** True: signals that this process gets meanwhile are the other's. Default: they are this one's business. */
  readonly forwardSignals?: boolean;
  /** Ends the process with SIGKILL. */
  readonly signal?: AbortSignal;
}

/** How often a container is looked at that is waited for, ms: it is nobody's child, so the kernel tells nobody. */
const waitLookMs = 50;

/**
 * All of it needs root. Besides what each says: ENVIRONMENT where the runtime is not installed; NOT_FOUND for an id that has no container; RUNTIME_FAILED with the
 * runtime's reason; CANCELLED.
 */
export class ContainerRuntime {
  readonly name: RuntimeName;
  readonly stateDir: string;
  readonly #runscOverlay: { readonly runscOverlay?: RunscOverlay };

  constructor({ name, stateDir, runscOverlay }: ContainerRuntimeOptions) {
    this.name = name;
    this.stateDir = path.resolve(stateDir);
    this.#runscOverlay = runscOverlay ? { runscOverlay } : {};
  }

  /** Makes a container that waits to be started. On failure nothing is left of it. Throws IN_USE for an id that is taken. */
  async create(options: CreateOptions): Promise<void> {
    const bundle = path.resolve(options.bundle);
    await createContainer({ ...options, ...this.#runscOverlay, ...this.#identity(options.id), bundle });
  }

  /** Lets the first process run. Resolves when it does. */
  async start(id: string, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { bundle } = await this.#requireState(id);
    await startContainer({ ...options, ...this.#runscOverlay, ...this.#identity(id), bundle });
  }

  /**
   * Runs a bundle in the foreground to its end: the exit code is only known to the parent of a process, which this makes itself. Signals that this
   * process gets meanwhile are the container's. Nothing is left afterwards.
   */
  async run(options: RunOptions): Promise<ContainerExit> {
    const bundle = path.resolve(options.bundle);
    return await runContainer({ ...options, ...this.#runscOverlay, ...this.#identity(options.id), bundle });
  }

  /** One more process in a container that runs; resolves when it has ended. What is not given is as for the first process. Throws USAGE. */
  async exec(id: string, { accounts = {}, ...options }: ExecOptions): Promise<ContainerExit> {
    const { bundle } = await this.#requireState(id);
    const first = await firstProcess(bundle);
    return await execInContainer({
      ...this.#identity(id),
      directory: bundle,
      process: buildExecProcess({ ...options, first, accounts }),
      stdio: options.stdio ?? "inherit",
      forwardSignals: options.forwardSignals ?? false,
      ...(options.signal ? { signal: options.signal } : {}),
    });
  }

  /** Undefined where there is no such container. */
  async state(id: string): Promise<ContainerState | undefined> {
    return await containerState(this.#identity(id));
  }

  /** Resolves when the first process has ended, also by itself; the container is still to be deleted. Its exit code is nobody's: see `run`. */
  async wait(id: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { pid } = await this.#requireState(id);
    const first = pid > 0 ? identifyProcess(pid) : undefined;
    while (first && isRunning(first)) {
      throwIfAborted(signal, `waiting for container ${id}`);
      await new Promise((resolve) => setTimeout(resolve, waitLookMs));
    }
  }

  /** Sends a signal to the first process. */
  async kill(id: string, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await killContainer(this.#identity(id), signal);
  }

  /** Kills what runs and removes everything of the container but its bundle; one that is not there is fine. Ends within a minute, also where the runtime hangs. */
  async delete(id: string): Promise<void> {
    await destroyContainer(this.#identity(id));
  }

  #identity(id: string): ContainerIdentity {
    return { runtime: this.name, id, stateDir: this.stateDir };
  }

  async #requireState(id: string): Promise<ContainerState> {
    await requireContainer(this.#identity(id));
    const state = await this.state(id);
    if (state) return state;
    throw new SkimError("NOT_FOUND", `container ${id} was deleted in this moment`);
  }
}

async function firstProcess(bundle: string): Promise<RuntimeSpec["process"]> {
  const file = path.join(bundle, "config.json");
  try {
    return (JSON.parse(await readFile(file, "utf8")) as RuntimeSpec).process;
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `${file}, with what the container's processes are like, cannot be read`, {
      cause,
    });
  }
}
