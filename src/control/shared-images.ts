/**
 * The images that a daemon serves: one FUSE mount for each, made for the first who wants it, shared, and taken away when nobody has used it for a while.
 *
 * Who uses an image stands in records on disk (`sharedImage` of a rootfs), not in counters: a daemon that was killed, and rootfs that were undone while there was
 * none, leave nothing to be put right.
 */
import { describeError, isSkimError } from "../base/errors.js";
import { SingleFlight } from "../base/single-flight.js";
import type { HeldConnection } from "../holder/descriptor-keeper.js";
import type { FetchAheadOptions } from "../mount/fetch-ahead.js";
import { mountIdOf, type NamedImage, sharedIdOf, sharedImageId } from "./image-request.js";
import {
  adoptShared,
  type ImageHost,
  mountShared,
  type ServedShared,
  sharedPlaces,
  unmountShared,
} from "./shared-image.js";

export interface SharedImage {
  readonly id: string;
  readonly served: ServedShared;
  readonly mountpoint: string;
  /** Ids of the records that use it. */
  readonly users: Set<string>;
  /** Until it is unmounted because nobody uses it. */
  idleTimer?: NodeJS.Timeout;
}

export interface JoinOptions {
  readonly signal?: AbortSignal;
  /** False for a user that has no record, and leaves by itself. */
  readonly isRecorded?: boolean;
}

/** From joining an image to a record on disk are a few system calls. */
const recordedWithinMs = 60_000;

export interface SharedImagesOptions extends ImageHost {
  /** How long an image stays mounted that nobody uses. */
  readonly imageIdleMs: number;
  /** An image is about to be unmounted: its last counts can be had. */
  readonly onUnmount?: (image: SharedImage) => Promise<void>;
}

export class SharedImages {
  readonly #options: SharedImagesOptions;
  readonly #images = new Map<string, SharedImage>();
  readonly #mounting = new SingleFlight<string, SharedImage>();
  readonly #unmounting = new Map<string, Promise<void>>();
  /** When users came, of performance.now(): their records are written after that. */
  readonly #joinedMs = new Map<string, number>();
  #closed = false;

  constructor(options: SharedImagesOptions) {
    this.#options = options;
  }

  list(): readonly SharedImage[] {
    return [...this.#images.values()];
  }

  get(id: string): SharedImage | undefined {
    return this.#images.get(id);
  }

  /** The mounted image, for the record `user`, until it `leave`s. Throws as mountShared does. */
  async join(
    named: NamedImage,
    user: string,
    fetchAhead: FetchAheadOptions,
    { signal, isRecorded = true }: JoinOptions = {},
  ): Promise<SharedImage> {
    const shared = await sharedImageId(named, this.#options.settings.cacheDir);
    await this.#unmounting.get(shared);
    const there = this.list().find(({ id }) => sharedIdOf(id) === shared);
    const image =
      there ?? (await this.#mounting.run(shared, () => this.#mount(shared, named, fetchAhead, user), signal));
    image.users.add(user);
    this.#joinedMs.set(user, isRecorded ? performance.now() : Number.POSITIVE_INFINITY);
    clearTimeout(image.idleTimer);
    if (there) {
      image.served.content.newStart();
      image.served.ahead.start(fetchAhead);
    }
    return image;
  }

  async #mount(
    shared: string,
    named: NamedImage,
    fetchAhead: FetchAheadOptions,
    user: string,
  ): Promise<SharedImage> {
    const id = await this.#freeId(shared);
    const { served } = await mountShared(id, named, fetchAhead, this.#options);
    return this.#keep(id, served, [user]);
  }

  /** An id that no mount has, dead ones included. */
  async #freeId(shared: string): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const id = mountIdOf(shared, attempt);
      if (!(await this.#options.records.find(id))) return id;
    }
  }

  /** Serves what was served by the server before. `users`: the records that have it as their `sharedImage`. */
  async adopt(held: HeldConnection, users: readonly string[]): Promise<SharedImage | undefined> {
    const record = await this.#options.records.find(held.id);
    if (!record?.complete) return undefined;
    return this.#keep(held.id, await adoptShared(held, record, this.#options), users);
  }

  /** `user` is gone. The last one's image is unmounted after a while. */
  leave(id: string, user: string): void {
    this.#joinedMs.delete(user);
    const image = this.#images.get(id);
    if (!image?.users.delete(user) || image.users.size > 0) return;
    this.#unmountLater(image);
  }

  /** Lets go of users whose records are gone: somebody has undone them without asking this daemon. `recorded`: the ids of all records. */
  reconcile(recorded: ReadonlySet<string>): void {
    const now = performance.now();
    for (const { id, users } of this.list())
      for (const user of users) {
        const joinedMs = this.#joinedMs.get(user) ?? Number.NEGATIVE_INFINITY;
        if (!recorded.has(user) && now - joinedMs > recordedWithinMs) this.leave(id, user);
      }
  }

  /** `user` is gone, whatever it has used. */
  leaveEverything(user: string): void {
    for (const { id } of this.list()) this.leave(id, user);
  }

  /** Unmounts at once what nobody uses. Resolves to what was. */
  async unmountUnused(): Promise<readonly string[]> {
    const unused = this.list().filter(({ users }) => users.size === 0);
    const done = await Promise.all(unused.map((image) => this.#unmount(image)));
    return unused.filter((_, position) => done[position]).map(({ id }) => id);
  }

  /** Ends serving and leaves the mounts to the next server. */
  async letGo(limitMs: number): Promise<void> {
    this.#closed = true;
    const images = this.list();
    for (const image of images) clearTimeout(image.idleTimer);
    await Promise.all(
      images.map(async ({ served }) => {
        await served.session.letGo(limitMs);
        await served.ended;
      }),
    );
  }

  #keep(id: string, served: ServedShared, users: readonly string[]): SharedImage {
    const { settings } = this.#options;
    const { mountpoint } = sharedPlaces(settings.runDir, id);
    const image: SharedImage = { id, served, mountpoint, users: new Set(users) };
    this.#images.set(id, image);
    void served.ended.then(() => this.#ended(image));
    if (image.users.size === 0) this.#unmountLater(image);
    return image;
  }

  #unmountLater(image: SharedImage): void {
    if (this.#closed) return;
    clearTimeout(image.idleTimer);
    image.idleTimer = setTimeout(() => void this.#unmount(image), this.#options.imageIdleMs).unref();
  }

  /** False where it is in use. */
  async #unmount(image: SharedImage): Promise<boolean> {
    const { id, served } = image;
    if (image.users.size > 0 || this.#closed || this.#images.get(id) !== image) return false;
    // From here on, whoever wants it waits until it is gone, and mounts it anew.
    const done = (async () => {
      await this.#options.onUnmount?.(image);
      await unmountShared(id, served, this.#options, { force: false });
    })();
    const settled = done.then(
      () => {},
      () => {},
    );
    const shared = sharedIdOf(id);
    this.#unmounting.set(shared, settled);
    try {
      await done;
      this.#images.delete(id);
      return true;
    } catch (error) {
      const { logger } = this.#options;
      if (!isSkimError(error, "IN_USE"))
        logger.warn({ mount: id, error: describeError(error) }, "an unused image cannot be unmounted");
      // Somebody looks into it.
      this.#unmountLater(image);
      return false;
    } finally {
      this.#unmounting.delete(shared);
    }
  }

  /** The mount is gone. Where nobody here has unmounted it, somebody else has, or the connection was aborted. */
  async #ended(image: SharedImage): Promise<void> {
    if (this.#closed || this.#unmounting.has(sharedIdOf(image.id))) return;
    this.#images.delete(image.id);
    const { logger, keeper, records } = this.#options;
    logger.warn(
      { mount: image.id, users: [...image.users] },
      "the mount of an image has ended that was not unmounted here: its containers cannot read any more",
    );
    try {
      await keeper.release(image.id);
      await records.remove(image.id);
    } catch (error) {
      logger.error({ mount: image.id, error: describeError(error) }, "an ended mount cannot be cleaned up");
    }
  }
}
