/** The serving process as its parent sees it. */
import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import type { FuseEngineName } from "../../src/fuse/engine-names.js";
import type { AnswerMessage, ServerAnswers, ServerMethod, ServerRequests } from "./server-protocol.js";

/** The longest request is to open an archive of half a million files: about two seconds. What takes much longer hangs. */
const answerTimeoutMs = 60_000;

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class BenchServer {
  readonly engine: FuseEngineName;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  #requests = 0;

  /** Starts the process. It mounts with `engine` only: neither engine is to find the other's threads and memory there. */
  constructor(engine: FuseEngineName) {
    this.engine = engine;
    // Beside the bundle that this file is part of. Detached: the Ctrl-C of a terminal must not reach it before its mount is gone.
    this.#child = fork(path.join(import.meta.dirname, "server.js"), [], {
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#exited = new Promise((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.on("message", ({ id, answer, error }: AnswerMessage) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(`server (${engine}): ${error}`));
    });
    void this.#exited.then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the server (${engine}) has ended`));
    });
  }

  ask<M extends ServerMethod>(method: M, request: ServerRequests[M]): Promise<ServerAnswers[M]> {
    const id = ++this.#requests;
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`the server (${this.engine}) does not answer to ${method}`));
      const timer = setTimeout(late, answerTimeoutMs);
      const settled = () => clearTimeout(timer);
      this.#waiting.set(id, {
        resolve: (answer) => {
          settled();
          resolve(answer as ServerAnswers[M]);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      this.#child.send({ id, method, request }, (error) => {
        if (error) this.#waiting.get(id)?.reject(error);
      });
    });
  }

  /** Megabytes (10^6 bytes) of a line of /proc/PID/status: VmRSS, RssAnon. */
  residentMegabytes(line: "VmRSS" | "RssAnon"): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "latin1");
    const kibibytes = new RegExp(`^${line}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    return (Number(kibibytes) * 1024) / 1e6;
  }

  /** Closes the image and ends the process; a process that does not answer is killed. */
  async end(): Promise<void> {
    try {
      await this.ask("close", {});
    } catch {
      return await this.kill();
    }
    this.#child.disconnect();
    await this.#exited;
  }

  /** Ends the process as it stands. Its mount is dead then, and whoever waits for it is let go. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}
