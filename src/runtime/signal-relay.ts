/** Keeps signals from ending this process while a container's process runs, and hands them on as soon as there is somebody to take them. */
import type { ChildProcess } from "node:child_process";

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

export class SignalRelay {
  readonly #deliver: ((signal: NodeJS.Signals) => Promise<void>) | undefined;
  #child: ChildProcess | undefined;
  #first: NodeJS.Signals | undefined;
  #handedOn = Promise.resolve();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    if (signal !== "SIGWINCH") this.#first ??= signal;
    const child = this.#child;
    if (!child) return;
    const deliver = this.#deliver;
    if (signal === "SIGWINCH" || !deliver) {
      child.kill(signal);
      return;
    }
    // One after the other. Where there is no process yet, the signal ends the runtime.
    this.#handedOn = this.#handedOn.then(() => deliver(signal)).catch(() => void child.kill(signal));
  };

  /** `deliver` hands a signal to the container's process; not given where the runtime does that with those that it gets. */
  constructor(deliver: ((signal: NodeJS.Signals) => Promise<void>) | undefined) {
    this.#deliver = deliver;
    for (const signal of forwardedSignals) process.on(signal, this.#onSignal);
  }

  /** The first one that came; one that came before there was a runtime went to nobody. */
  get first(): NodeJS.Signals | undefined {
    return this.#first;
  }

  sendTo(child: ChildProcess): void {
    this.#child = child;
  }

  async close(): Promise<void> {
    for (const signal of forwardedSignals) process.off(signal, this.#onSignal);
    await this.#handedOn;
  }
}
