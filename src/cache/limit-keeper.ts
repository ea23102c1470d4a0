/**
 * When a process that writes to the cache looks after its limits: each time it has written some more, when the disk is full, and when it ends. Reading costs
 * nothing. Where a look does not help (all is pinned, or others fill the disk) nothing more is written for a while, and what is fetched is served without.
 */
import { describeError, isSkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { EvictionReport, Evictor } from "./evictor.js";

/** So much may be written between two looks, by each process; less where the limit is small. */
const writtenBytesMax = 64 * 1024 * 1024;
const writtenShareMax = 1 / 64;

export interface LimitKeeperOptions {
  readonly evictor: Pick<Evictor, "run">;
  readonly logger: Logger;
  /** Is told when nothing more should be written. */
  readonly onNoRoom?: () => void;
}

export class LimitKeeper {
  readonly #options: LimitKeeperOptions;
  readonly #abort = new AbortController();
  #writtenBytes = 0;
  #lookAtBytes = writtenBytesMax;
  #looking: Promise<void> | undefined;

  constructor(options: LimitKeeperOptions) {
    this.#options = options;
  }

  /** Returns at once; a look runs in the background. */
  wrote(bytes: number, isFull: boolean): void {
    this.#writtenBytes += bytes;
    if (isFull || this.#writtenBytes >= this.#lookAtBytes) void this.look();
  }

  /** Looks now, once at a time. Never rejects. */
  async look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  /** Has a last look where anything was written since the one before, without waiting for readers. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#looking;
    if (this.#writtenBytes > 0) await this.look();
  }

  async #lookOnce(): Promise<void> {
    const { evictor, logger, onNoRoom } = this.#options;
    this.#writtenBytes = 0;
    try {
      const report = await evictor.run({ signal: this.#abort.signal });
      if (!report) return;
      this.#lookAtBytes = Math.min(writtenBytesMax, Math.ceil(report.bytesMax * writtenShareMax));
      if (!hasRoom(report)) onNoRoom?.();
    } catch (error) {
      if (isSkimError(error, "CANCELLED")) return;
      logger.warn({ error: describeError(error) }, "limits of the cache are not kept");
    }
  }
}

/** What waits for its readers is as good as gone. */
function hasRoom({ usedBytes, waitingBytes, bytesMax, freeBytes, freeBytesMin }: EvictionReport): boolean {
  return usedBytes - waitingBytes <= bytesMax && freeBytes + waitingBytes >= freeBytesMin;
}
