/** The metrics over TCP, as soon as their port is free: a server that is being replaced has it for a moment longer, and some other program for as long as it likes. */
import { describeError, type SkimError, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { type Fetch, type ServedApi, serveOverTcp, type TcpAddress } from "./serve-api.js";

/** A server before closes its port when it has let go of its mounts. */
const leftWithinMs = 5_000;
const lookAgainMs = 200;

export class MetricsPort {
  readonly #address: TcpAddress;
  readonly #fetch: Fetch;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  #served: ServedApi | undefined;

  constructor(address: TcpAddress, fetch: Fetch, logger: Logger) {
    this.#address = address;
    this.#fetch = fetch;
    this.#logger = logger;
  }

  /** Resolves when it listens. Where it cannot: with `forever` it goes on trying until it is closed, otherwise it throws LOCAL_IO after a few seconds. */
  async listen({ forever }: { readonly forever: boolean }): Promise<void> {
    const { signal } = this.#closing;
    const endsAt = performance.now() + leftWithinMs;
    for (let isTold = false; !signal.aborted; ) {
      try {
        const served = await serveOverTcp(this.#address, this.#fetch);
        this.#logger.info({ address: served.address }, "metrics are served over TCP");
        this.#served = served;
        return;
      } catch (error) {
        const isTaken = systemErrorCode((error as SkimError).cause) === "EADDRINUSE";
        if (!forever && (!isTaken || performance.now() > endsAt)) throw error;
        if (!isTold && performance.now() > endsAt) {
          this.#logger.error({ error: describeError(error) }, "no metrics are served; it is tried again");
          isTold = true;
        }
      }
      await new Promise<void>((resolve) => setTimeout(resolve, lookAgainMs).unref());
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#served?.close();
  }
}
