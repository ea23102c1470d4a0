/**
 * When a process that writes to the cache looks after its limits: each time it has written some more, when the disk is full, and when it ends. Reading costs
 * nothing. A process that writes faster than room is made stops writing until the look has ended, so that it is never ahead of the limit by more than
 * what it may write between two looks, twice. Where a look does not help (all is pinned, or others fill the disk) nothing more is written for a while, and what is fetched is served without.
 */
import { describeError, isSkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { EvictionReport, EvictionRun, Evictor } from "./evictor.js";

/** So much may be written between two looks, by each process; less where the limit is small. */
const writtenBytesMax = 64 * 1024 * 1024;
const writtenShareMax = 1 / 64;

export interface LimitKeeperOptions {
  readonly evictor: Pick<Evictor, "run">;
  readonly logger: Logger;
  /** The limit where it is known beforehand; a share of a disk is known after the first look. */
  readonly bytesMax?: number | undefined;
  /** Is told when nothing more should be written. */
  readonly onNoRoom?: () => void;
}

export class LimitKeeper {
  readonly #options: LimitKeeperOptions;
  readonly #abort = new AbortController();
  #writtenBytes = 0;
  #lookAtBytes: number;
  #looking: Promise<void> | undefined;

  constructor(options: LimitKeeperOptions) {
    this.#options = options;
    this.#lookAtBytes = writtenBytesBetweenLooks(options.bytesMax ?? Number.POSITIVE_INFINITY);
  }

  /** Returns at once; a look runs in the background. */
  wrote(bytes: number, isFull: boolean): void {
    this.#writtenBytes += bytes;
    if (isFull || this.#writtenBytes >= this.#lookAtBytes) void this.look();
  }

  /** False while a look is under way and as much has been written since it began as calls for the next. */
  get mayWrite(): boolean {
    return this.#looking === undefined || this.#writtenBytes < this.#lookAtBytes;
  }

  /** Resolves when no look is under way. */
  async settled(): Promise<void> {
    await this.#looking;
  }

  /** Looks now, once at a time, and again where enough was written meanwhile. Never rejects. */
  async look(): Promise<void> {
    this.#looking ??= this.#lookUntilDone().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async #lookUntilDone(): Promise<void> {
    do await this.#lookOnce({ signal: this.#abort.signal });
    while (this.#writtenBytes >= this.#lookAtBytes && !this.#abort.signal.aborted);
  }

  /** Has a last look where anything was written since the one before, without waiting for readers. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#looking;
    if (this.#writtenBytes > 0) await this.#lookOnce({ graceMs: 0 });
  }

  async #lookOnce(run: EvictionRun): Promise<void> {
    const { evictor, logger, onNoRoom } = this.#options;
    this.#writtenBytes = 0;
    try {
      const report = await evictor.run(run);
      if (!report) return;
      this.#lookAtBytes = writtenBytesBetweenLooks(report.bytesMax);
      if (!hasRoom(report)) onNoRoom?.();
    } catch (error) {
      if (isSkimError(error, "CANCELLED")) return;
      logger.warn({ error: describeError(error) }, "limits of the cache are not kept");
    }
  }
}

function writtenBytesBetweenLooks(bytesMax: number): number {
  return Math.min(writtenBytesMax, Math.ceil(bytesMax * writtenShareMax));
}

/** What waits for its readers is as good as gone. */
function hasRoom({ usedBytes, waitingBytes, bytesMax, freeBytes, freeBytesMin }: EvictionReport): boolean {
  return usedBytes - waitingBytes <= bytesMax && freeBytes + waitingBytes >= freeBytesMin;
}
