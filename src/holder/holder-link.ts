/**
 * One connection to a holder: requests with their answers, and what the holder says by itself.
 *
 * The event loop watches the socket, so neither a silent holder nor a wedged one takes a thread of the pool; every request has a time limit.
 */
import { closeSync, constants, openSync } from "node:fs";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { NativeBinding, SocketHandle } from "../native/binding.js";
import { decodePacket, encodePacket } from "./holder-protocol.js";

export type LinkNative = Pick<NativeBinding, "socketConnect" | "socketSend" | "socketWatch" | "socketClose">;

export interface HolderAnswer {
  /** The verb, the number, and what is behind them. */
  readonly fields: readonly string[];
  /** What came with it, the caller's to close; -1 for nothing. */
  readonly descriptor: number;
}

/** The connection has ended before the answer came: the holder is gone, or has let go of this server. */
export class LinkClosed extends Error {
  override readonly name = "LinkClosed";
}

/** The holder has refused a request. */
export class HolderRefusal extends Error {
  override readonly name = "HolderRefusal";
  constructor(
    /** `EEXIST`, ... */
    readonly code: string,
    /** The system call that failed; empty where it was the holder's own decision. */
    readonly syscall: string,
    verb: string,
  ) {
    super(`the holder answers ${verb} with ${code}${syscall ? ` of ${syscall}(2)` : ""}`);
  }
}

interface Waiting {
  readonly verb: string;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (answer: HolderAnswer) => void;
  readonly reject: (error: unknown) => void;
}

export class HolderLink {
  /** Resolves when the connection has ended, by whomever. */
  readonly closed: Promise<void>;
  readonly #native: LinkNative;
  readonly #socket: number;
  readonly #handle: SocketHandle;
  readonly #onLetGo: () => void;
  readonly #waiting = new Map<number, Waiting>();
  #onClosed = () => {};
  #isClosed = false;
  #requests = 0;

  private constructor(socket: number, native: LinkNative, onLetGo: () => void) {
    this.#native = native;
    this.#socket = socket;
    this.#onLetGo = onLetGo;
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    this.#handle = native.socketWatch(socket, (packet, descriptor) => this.#hear(packet, descriptor));
  }

  /** Undefined where nobody listens in `runDir`. Throws ENVIRONMENT for anything else. */
  static connect(runDir: string, native: LinkNative, onLetGo: () => void): HolderLink | undefined {
    // Through the descriptor: a socket's address has room for 107 bytes.
    const directory = openSync(runDir, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return new HolderLink(
        native.socketConnect(`/proc/self/fd/${directory}/holder.sock`, false),
        native,
        onLetGo,
      );
    } catch (cause) {
      if (["ENOENT", "ECONNREFUSED"].includes(systemErrorCode(cause) ?? "")) return undefined;
      throw new SkimError(
        "ENVIRONMENT",
        `the holder of ${runDir} does not take connections (${systemErrorCode(cause)}); see its log, end it with SIGKILL (its mounts die with it) and start again`,
        { cause },
      );
    } finally {
      closeSync(directory);
    }
  }

  /** Throws LinkClosed, HolderRefusal, and ENVIRONMENT where no answer comes in time. */
  request(
    verb: string,
    fields: readonly string[],
    { descriptor = -1, timeoutMs }: { descriptor?: number; timeoutMs: number },
  ): Promise<HolderAnswer> {
    const number = ++this.#requests;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(number);
        reject(
          new SkimError(
            "ENVIRONMENT",
            `the holder has not answered ${verb} for ${timeoutMs / 1000} s; see its log`,
          ),
        );
      }, timeoutMs);
      this.#waiting.set(number, { verb, timer, resolve, reject });
      try {
        this.#send([verb, String(number), ...fields], descriptor);
      } catch (error) {
        clearTimeout(timer);
        this.#waiting.delete(number);
        reject(error);
      }
    });
  }

  /** What is not answered. False where the holder does not take it: it is gone, or wedged. */
  tell(verb: string, fields: readonly string[]): boolean {
    try {
      this.#send([verb, "0", ...fields], -1);
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#native.socketClose(this.#handle);
    this.#end();
  }

  #send(fields: readonly string[], descriptor: number): void {
    if (this.#isClosed) throw new LinkClosed("the connection to the holder has ended");
    try {
      this.#native.socketSend(this.#socket, encodePacket(fields), descriptor);
    } catch (cause) {
      const code = systemErrorCode(cause);
      if (code === "EPIPE" || code === "ECONNRESET") throw new LinkClosed("the holder is gone", { cause });
      throw new SkimError("ENVIRONMENT", `the holder does not take ${fields[0]} (${code}); see its log`, {
        cause,
      });
    }
  }

  #hear(packet: Uint8Array | null, descriptor: number): void {
    if (!packet) {
      this.#end();
      return;
    }
    const fields = decodePacket(packet);
    const waiting = this.#waiting.get(Number(fields[1]));
    if (!waiting) {
      // An answer that came too late, or none.
      if (descriptor >= 0) closeSync(descriptor);
      if (fields[0] === "LETGO") this.#onLetGo();
      return;
    }
    this.#waiting.delete(Number(fields[1]));
    clearTimeout(waiting.timer);
    if (fields[0] === "ERROR")
      waiting.reject(new HolderRefusal(fields[3] ?? "EIO", fields[4] ?? "", waiting.verb));
    else waiting.resolve({ fields, descriptor });
  }

  #end(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // First: who is told of the failed request may want to know of this.
    this.#onClosed();
    for (const { timer, reject } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new LinkClosed("the holder is gone"));
    }
    this.#waiting.clear();
  }
}
