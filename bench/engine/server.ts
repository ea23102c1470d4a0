/** The serving process as its parent sees it. */
import { readFileSync } from "node:fs";
import type { FuseEngineName } from "../../src/fuse/engine-names.js";
import { AskedProcess } from "../support/asked-process.js";
import type { ServerAnswers, ServerMethod, ServerRequests } from "./server-protocol.js";

export class BenchServer {
  readonly engine: FuseEngineName;
  readonly #process: AskedProcess<ServerRequests, ServerAnswers>;

  /** Starts the process. It mounts with `engine` only: neither engine is to find the other's threads and memory there. */
  constructor(engine: FuseEngineName) {
    this.engine = engine;
    this.#process = new AskedProcess(`the server (${engine})`, "server.js");
  }

  ask<M extends ServerMethod>(method: M, request: ServerRequests[M]): Promise<ServerAnswers[M]> {
    return this.#process.ask(method, request);
  }

  /** Megabytes (10^6 bytes) of a line of /proc/PID/status: VmRSS, RssAnon. */
  residentMegabytes(line: "VmRSS" | "RssAnon"): number {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, "latin1");
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
    await this.#process.disconnect();
  }

  /** Ends the process as it stands. Its mount is dead then, and whoever waits for it is let go. */
  async kill(): Promise<void> {
    await this.#process.kill();
  }
}
