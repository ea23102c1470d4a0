/**
 * Runs a container in the foreground and cleans up after it, whatever happened.
 *
 * The runtime is a child process with the caller's standard streams. Signals go to the container's first process, by way of the runtime; as with docker, one that ignores them goes on. A signal that comes
 * before the process has started ends the runtime itself, which may hang, and then there is no container.
 */
import { access, mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { describeError, SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { type ContainerIdentity, destroyContainer, idInUse, killContainer } from "./container-lifecycle.js";
import type { RunscOverlay } from "./runsc-features.js";
import { commandExitCode, commandOf, hasState, readRuntimeErrors, runtimeKinds } from "./runtime-command.js";
import {
  type ContainerExit,
  type ContainerStreams,
  signalExitCode,
  spawnRuntime,
  throwIfAborted,
  waitForExit,
} from "./runtime-process.js";
import { SignalRelay, sendOnceStarted } from "./signal-relay.js";

export interface RunContainerOptions extends ContainerIdentity {
  /** Directory with config.json. The runtime's log and pid file are put there meanwhile. */
  readonly bundle: string;
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** Only for runsc. Default: none of its own. */
  readonly runscOverlay?: RunscOverlay;
  /** Ends the container with SIGKILL. */
  readonly signal?: AbortSignal;
  readonly logger?: Logger;
}

/**
 * Runs a bundle to its end. Throws RUNTIME_FAILED with the runtime's reason where the process was not started, IN_USE where there
 * is a container of that id, ENVIRONMENT where the runtime is not installed, CANCELLED. Afterwards the container is gone in any
 * case (where the runtime cannot do that, a warning is logged).
 */
export async function runContainer(options: RunContainerOptions): Promise<ContainerExit> {
  const kind = runtimeKinds[options.runtime];
  const logger = options.logger ?? silentLogger;
  const { bundle, stateDir, id } = options;
  const call = {
    bundle,
    stateDir,
    logFile: path.join(bundle, "runtime.log"),
    ...(options.runscOverlay ? { runscOverlay: options.runscOverlay } : {}),
  };
  const pidFile = path.join(bundle, "runtime.pid");
  const signals = new SignalRelay(
    kind.forwardsSignals ? sendOnceStarted(pidFile) : (signal) => killContainer(options, signal),
  );
  let owned = false;
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    if (await hasState(kind, stateDir, id)) throw idInUse(id);
    for (const file of [call.logFile, pidFile]) await rm(file, { force: true });
    const command = await commandOf(kind, call, await kind.startOptions(call), [
      ...["run", "--bundle", bundle, "--pid-file", pidFile, id],
    ]);
    throwIfAborted(options.signal, `container ${id}`);
    if (signals.first) return { exitCode: signalExitCode(signals.first) };

    owned = true;
    const { child, written } = spawnRuntime(kind, command, options.stdio);
    signals.sendTo(child);
    const exitCode = await waitForExit(kind, child, {
      ...options,
      kill: () => killContainer(options, "SIGKILL"),
    });
    await written;
    throwIfAborted(options.signal, `container ${id}`);
    if (signals.endedBy) return { exitCode: signalExitCode(signals.endedBy) };
    logger.debug({ id, exitCode, msg: "container ended" });
    if (exitCode === 0) return { exitCode };

    const started = await access(pidFile).then(
      () => true,
      () => false,
    );
    const errors = await readRuntimeErrors(call.logFile);
    const reason = kind.startFailure(errors, started);
    if (reason === undefined) return { exitCode };
    if (/already exists/.test(reason)) {
      owned = false;
      throw idInUse(id);
    }
    const commandCode = commandExitCode(reason);
    if (commandCode !== undefined) return { exitCode: commandCode, startFailure: reason };
    throw new SkimError("RUNTIME_FAILED", `${kind.name} could not start container ${id}: ${reason}`);
  } finally {
    await signals.close();
    if (owned) {
      // Whoever made the rootfs under it will find out: it cannot be taken down. The exit code must not be lost for it.
      await destroyContainer(options).catch((error) =>
        logger.warn({ id, error: describeError(error), msg: "container not cleaned up" }),
      );
    }
    for (const file of [call.logFile, pidFile]) await rm(file, { force: true }).catch(() => {});
  }
}
