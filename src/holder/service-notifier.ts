/**
 * What a service tells its manager: datagrams of NAME=VALUE lines to the socket that NOTIFY_SOCKET names, a descriptor beside them where one is to be stored
 * (sd_notify(3), sd_pid_notify_with_fds(3)).
 */
import { closeSync } from "node:fs";
import { describeError, SkimError, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { NativeBinding } from "../native/binding.js";

export type NotifierNative = Pick<
  NativeBinding,
  "socketConnect" | "socketSend" | "socketPair" | "socketWatch" | "socketClose"
>;

/** The manager takes a datagram in microseconds. Its queue is full where it is being reloaded. */
const sendTimeoutMs = 10_000;
const sendIntervalMs = 10;
/** As long as sd_notify_barrier(3) waits in systemd's own programs. */
const barrierTimeoutMs = 30_000;

/** How often the manager wants to hear of this process, at least (WATCHDOG_USEC); 0 where it does not. */
export function serviceWatchdogMs(environment: NodeJS.ProcessEnv): number {
  // Meant for this process, unless it names another.
  const pid = environment.WATCHDOG_PID;
  const isOurs = pid === undefined || pid === String(process.pid);
  const watchdogMs = isOurs ? Number(environment.WATCHDOG_USEC ?? 0) / 1000 : 0;
  return watchdogMs > 0 ? watchdogMs : 0;
}

export class ServiceNotifier {
  readonly #socket: string;
  readonly #native: NotifierNative;
  readonly #logger: Logger;
  /** How often the manager wants to hear of us, at least; 0 where it does not (WATCHDOG_USEC). */
  readonly #watchdogMs: number;
  #beatMs = Number.NEGATIVE_INFINITY;

  private constructor(socket: string, watchdogMs: number, native: NotifierNative, logger: Logger) {
    this.#socket = socket;
    this.#watchdogMs = watchdogMs;
    this.#native = native;
    this.#logger = logger;
  }

  /** Undefined where there is no manager, or one at an address that is no Unix socket. */
  static fromEnvironment(
    environment: NodeJS.ProcessEnv,
    native: NotifierNative,
    logger: Logger,
  ): ServiceNotifier | undefined {
    const socket = environment.NOTIFY_SOCKET ?? "";
    if (!socket.startsWith("/") && !socket.startsWith("@")) return undefined;
    return new ServiceNotifier(socket, serviceWatchdogMs(environment), native, logger);
  }

  /** MAINPID, for a server that has not been started by the manager itself. */
  ready(status: string): void {
    this.#tell(["READY=1", `STATUS=${status.replace(/\n/g, " ")}`, `MAINPID=${process.pid}`]);
  }

  stopping(): void {
    this.#tell(["STOPPING=1"]);
  }

  /** As often as is handy: what is too often is not sent. */
  beat(): void {
    const now = performance.now();
    if (this.#watchdogMs === 0 || now - this.#beatMs < this.#watchdogMs / 4) return;
    this.#beatMs = now;
    this.#tell(["WATCHDOG=1"]);
  }

  /** Resolves when the manager has it in its queue. Throws ENVIRONMENT. */
  async send(lines: readonly string[], descriptor = -1): Promise<void> {
    const until = performance.now() + sendTimeoutMs;
    for (;;) {
      try {
        return this.#sendNow(lines, descriptor);
      } catch (cause) {
        const isFull = systemErrorCode(cause) === "EAGAIN";
        if (!isFull || performance.now() > until)
          throw new SkimError(
            "ENVIRONMENT",
            `the service manager cannot be told at ${this.#socket}: ${describeError(cause)}`,
            { cause },
          );
        await new Promise((resolve) => setTimeout(resolve, sendIntervalMs));
      }
    }
  }

  /** Resolves when the manager has done everything that it was sent before. Throws ENVIRONMENT. */
  async barrier(): Promise<void> {
    const [ours, theirs] = this.#native.socketPair(true);
    let onClosed = () => {};
    const closed = new Promise<void>((resolve) => {
      onClosed = resolve;
    });
    const handle = this.#native.socketWatch(ours, (packet) => {
      if (!packet) onClosed();
    });
    try {
      await this.send(["BARRIER=1"], theirs);
    } catch (error) {
      this.#native.socketClose(handle);
      throw error;
    } finally {
      closeSync(theirs);
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new SkimError("ENVIRONMENT", "the service manager does not take what it is told")),
        barrierTimeoutMs,
      );
    });
    await Promise.race([closed, late]).finally(() => {
      clearTimeout(timer);
      this.#native.socketClose(handle);
    });
  }

  #sendNow(lines: readonly string[], descriptor: number): void {
    const socket = this.#native.socketConnect(this.#socket, true);
    try {
      this.#native.socketSend(socket, Buffer.from(lines.join("\n")), descriptor);
    } finally {
      closeSync(socket);
    }
  }

  #tell(lines: readonly string[]): void {
    this.send(lines).catch((error) => this.#logger.warn({ error: describeError(error) }, "not told"));
  }
}
