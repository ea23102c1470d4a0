/**
 * Tells the keeper that this server lives, and ends it when a mount of it is wedged: requests wait in the kernel, none is answered, and for longer than any read may
 * take. The next server gets them sent again. A connection that two servers in a row could not move is aborted: its readers get ENOTCONN instead of
 * hanging for ever, and all other mounts go on.
 */
import { describeError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { abortConnection, waitingRequests } from "../fuse/kernel-connection.js";
import type { DescriptorKeeper } from "../holder/descriptor-keeper.js";
import type { MountRecords } from "../mount/mount-record.js";
import type { SharedImage, SharedImages } from "./shared-images.js";

const beatsInLimit = 10;
/** Servers that try before a connection is aborted. */
const triesMax = 2;

export interface WatchdogOptions {
  readonly keeper: Pick<DescriptorKeeper, "beat">;
  readonly images: Pick<SharedImages, "list">;
  readonly records: MountRecords;
  readonly logger: Logger;
  readonly watchdogMs: number;
  /** No answer to anybody for so long, while somebody waits: the mount is wedged. Longer than any read's deadline. */
  readonly wedgedMs: number;
  /** Ends this process so that it is started again. */
  readonly restart: () => void;
}

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #timer: NodeJS.Timeout;
  /** By image: how many requests had been answered, and since when that has not changed while others waited. */
  readonly #stuck = new Map<string, { answered: number; sinceMs: number }>();

  constructor(options: WatchdogOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), options.watchdogMs / beatsInLimit);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async look(): Promise<void> {
    const { keeper, images, logger } = this.#options;
    const counts = images.list().map((image) => ({ image, answered: answeredOf(image) }));
    keeper.beat(counts.reduce((sum, { answered }) => sum + answered, 0));
    const now = performance.now();
    for (const { image, answered } of counts) {
      const before = this.#stuck.get(image.id);
      if (waitingRequests(image.served.session.deviceMinor) === 0 || before?.answered !== answered) {
        this.#stuck.set(image.id, { answered, sinceMs: now });
      } else if (now - before.sinceMs > this.#options.wedgedMs) {
        this.#stuck.delete(image.id);
        await this.#giveUp(image).catch((error: unknown) =>
          logger.error(
            { mount: image.id, error: describeError(error) },
            "a wedged mount could not be given up",
          ),
        );
      }
    }
  }

  async #giveUp({ id, served, users }: SharedImage): Promise<void> {
    const { records, logger, restart } = this.#options;
    const record = await records.find(id);
    const tries = (record?.wedged ?? 0) + 1;
    const state = served.session.describe();
    if (record && tries <= triesMax) {
      await records.update({ ...record, wedged: tries });
      logger.error({ mount: id, tries, state }, "a mount answers nothing: the server starts again");
      restart();
      return;
    }
    logger.error(
      { mount: id, users: [...users], state },
      "a mount answers nothing, and starting again did not help: its connection is aborted, its readers get ENOTCONN",
    );
    abortConnection(served.session.deviceMinor);
  }
}

function answeredOf({ served }: SharedImage): number {
  return Object.values(served.session.operations.snapshot()).reduce((sum, count) => sum + count, 0);
}
