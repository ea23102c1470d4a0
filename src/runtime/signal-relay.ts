/**
 * Keeps signals from ending this process while a container's process runs, and hands them on as soon as there is somebody to take them. One that nobody
 * takes, because the process has not started, or its runtime hangs, ends the runtime.
 */
import type { ChildProcess } from "node:child_process";
import { readPid } from "./pid-file.js";
import { endRuntime } from "./runtime-process.js";

/** WINCH: the runtime gives a container's terminal the size of ours, but only ours is told of a change. */
const forwardedSignals = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
] as const;

/** Hands a signal to the container's process. Rejects where nobody takes it. */
export type DeliverSignal = (signal: NodeJS.Signals, runtime: ChildProcess) => Promise<void>;

export class SignalRelay {
  readonly #deliver: DeliverSignal;
  #child: ChildProcess | undefined;
  #first: NodeJS.Signals | undefined;
  #endedBy: NodeJS.Signals | undefined;
  #handedOn = Promise.resolve();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    const child = this.#child;
    if (signal === "SIGWINCH") {
      child?.kill(signal);
      return;
    }
    this.#first ??= signal;
    if (!child) return;
    // One after the other.
    this.#handedOn = this.#handedOn
      .then(() => this.#deliver(signal, child))
      .catch(async () => {
        this.#endedBy ??= signal;
        await endRuntime(child);
      });
  };

  constructor(deliver: DeliverSignal) {
    this.#deliver = deliver;
    for (const signal of forwardedSignals) process.on(signal, this.#onSignal);
  }

  /** The first one that came; one that came before there was a runtime went to nobody. */
  get first(): NodeJS.Signals | undefined {
    return this.#first;
  }

  /** The one that ended the runtime. */
  get endedBy(): NodeJS.Signals | undefined {
    return this.#endedBy;
  }

  sendTo(child: ChildProcess): void {
    this.#child = child;
  }

  async close(): Promise<void> {
    for (const signal of forwardedSignals) process.off(signal, this.#onSignal);
    await this.#handedOn;
  }
}

/** How long a runtime may take from the start of a process to its pid file, ms. A start that takes longer is no use to who wants its end. */
const pidFileLimitMs = 2000;

/**
 * For runtimes that hand signals on themselves once they have written `pidFile`, shortly after the process has started: before, runc keeps them, and crun is
 * ended by some.
 */
export function sendOnceStarted(pidFile: string): DeliverSignal {
  return async (signal, runtime) => {
    await readPid(pidFile, runtime, pidFileLimitMs);
    runtime.kill(signal);
  };
}
