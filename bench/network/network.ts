/** A network in front of a server, as the benchmark sees it: a proxy in a process of its own. */
import { AskedProcess } from "../support/asked-process.js";
import type { NetworkProfile } from "./profiles.js";
import type { TrafficReport } from "./traffic.js";

export interface NetworkRequests {
  listen: Record<string, never>;
  /** Another network from now on, and counters at 0. */
  reset: { readonly profile: string };
  report: Record<string, never>;
}

export interface NetworkAnswers {
  listen: { readonly port: number };
  reset: Record<string, never>;
  /** Since the last reset; processor time of the whole process so far. */
  report: { readonly traffic: TrafficReport; readonly cpuMs: number };
}

export class Network {
  /** What to connect to, e.g. `127.0.0.1:41234`. */
  readonly host: string;
  readonly #process: AskedProcess<NetworkRequests, NetworkAnswers>;

  private constructor(host: string, process: AskedProcess<NetworkRequests, NetworkAnswers>) {
    this.host = host;
    this.#process = process;
  }

  /** `upstream`: `host:port`. The network is unshaped until `reset`. */
  static async start(upstream: string): Promise<Network> {
    const process = new AskedProcess<NetworkRequests, NetworkAnswers>("the network", "network.js", [
      upstream,
    ]);
    const { port } = await process.ask("listen", {});
    return new Network(`127.0.0.1:${port}`, process);
  }

  /** Ends every connection and counts anew, on a network of `profile`. */
  async reset(profile: NetworkProfile): Promise<void> {
    await this.#process.ask("reset", { profile: profile.name });
  }

  async report(): Promise<NetworkAnswers["report"]> {
    return await this.#process.ask("report", {});
  }

  async close(): Promise<void> {
    await this.#process.disconnect();
  }
}
