/**
 * The server process of a host: every image at one mount, every rootfs on top of one, and an API for whoever wants more of them (api.ts).
 *
 * It may die at any time. Its /dev/fuse descriptors are kept by another process (src/holder), what it has mounted is in records, and the next one goes on from there: first it
 * serves what was served before, for readers wait; then it removes what its predecessor was in the middle of; then it takes requests.
 */
import { mkdir } from "node:fs/promises";
import { describeError, errorTable, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { skimVersion } from "../base/version.js";
import type { Presence } from "../content/background-fill.js";
import { createSharedContentParts } from "../content/content.js";
import type { DescriptorKeeper, HeldConnection } from "../holder/descriptor-keeper.js";
import { Mounter } from "../holder/mounter.js";
import { openDescriptorKeeper } from "../holder/open-keeper.js";
import { serviceWatchdogMs } from "../holder/service-notifier.js";
import { openDiskCache } from "../mount/disk-cache.js";
import type { ServerStart } from "../mount/mount-observation.js";
import { type MountRecord, MountRecords, newMountId } from "../mount/mount-record.js";
import { askOwnServer, type ListedMount, listMounts } from "../mount/mount-stats.js";
import { observeMounts } from "../mount/observe-mounts.js";
import type { MountStats } from "../mount/serve-image.js";
import { loadNative } from "../native/load.js";
import type { OverlayBinding } from "../overlay/overlay-mount.js";
import { readProfiles } from "../profile/profile-store.js";
import type { ImageProfiles } from "../profile/start-profile.js";
import type { HealthAnswer, LeftoversAnswer } from "./api-schemas.js";
import type { DaemonLog } from "./daemon-log.js";
import { HostObserver } from "./host-observer.js";
import { ImageFinder, type ImageName } from "./image-finder.js";
import { cleanUp } from "./leftovers.js";
import { RootfsLifecycle } from "./rootfs-lifecycle.js";
import type { ServedSocket } from "./serve-api.js";
import { type SharedImage, SharedImages } from "./shared-images.js";
import { takeOver } from "./take-over.js";
import { Watchdog } from "./watchdog.js";

/** What a successor waits for at most while this one lets go: less than its readers would notice, as far as reads wait for the network. */
const letGoLimitMs = 2_000;
/** For requests to mount that are under way when the daemon is to end; what is not done by then is undone by the next one. */
const pendingLimitMs = 5_000;
/** What has been left is mostly gone by then. */
const cleanUpLimitMs = 10_000;
/** Beyond the deadline of a read: answers that were due by then have come, or will not. */
const wedgedExtraMs = 30_000;
/** How often the ends of owners are looked for. */
const ownersIntervalMs = 1_000;
/** Of no haste: until then an image stays mounted that nobody uses. */
const reconcileIntervalMs = 60_000;

export interface DaemonOptions {
  readonly settings: Settings;
  readonly logger: Logger;
  readonly logs: DaemonLog;
  /** The command that starts this daemon again when it has died; undefined: nobody does. */
  readonly restart: { readonly file: string; readonly args: readonly string[] } | undefined;
}

export class Daemon {
  readonly logger: Logger;
  readonly logs: DaemonLog;
  readonly rootfs: RootfsLifecycle;
  readonly images: SharedImages;
  /** Resolves when the daemon is to end because another one has taken over, or it was told to. */
  readonly ended: Promise<void>;
  readonly #options: DaemonOptions;
  readonly #keeper: DescriptorKeeper;
  readonly #records: MountRecords;
  readonly #native: OverlayBinding;
  readonly #finder: ImageFinder;
  readonly #observer: HostObserver;
  readonly #undo: UndoStack;
  readonly #startedAt = new Date().toISOString();
  #isReady = false;
  #isTakenOver = false;
  #opened: Promise<ServedSocket | undefined> = Promise.resolve(undefined);
  #stopping: Promise<void> | undefined;
  #end = () => {};

  /** Resolves when everything that was served before is served again, and what killed processes have left is gone. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { settings, logger, restart } = options;
    const { runDir } = settings;
    await mkdir(runDir, { recursive: true, mode: 0o700 });
    const undo = new UndoStack();
    return await undo.guard(async () => {
      const keeper = await openDescriptorKeeper({
        runDir,
        restart,
        logger,
        logFile: options.logs.file,
        environment: process.env,
        watchdogMs: settings.watchdogMs,
      });
      let held: readonly HeldConnection[] | undefined;
      let isStarted = false;
      // Who cannot start, and has nobody waiting for him, is not to be started again and again.
      undo.defer(async () => {
        if (!isStarted && held?.length === 0) await keeper.leave({ all: true });
      });
      const mounter = Mounter.start();
      undo.defer(() => mounter.close());
      const cache = openDiskCache(settings, logger);
      undo.defer(() => cache.close());
      const daemon = new Daemon(options, { keeper, mounter, cache, undo });
      // Before all else: who keeps the connections must see that this server lives, however much there is to take over.
      daemon.#watch();
      held = await keeper.takeHeld();
      await daemon.#takeOver(held);
      // Removing what somebody has written takes as long as it takes; requests need not wait for that.
      const cleaned = daemon.#cleanUpAfterPredecessors();
      await Promise.race([cleaned, after(cleanUpLimitMs)]);
      isStarted = true;
      return daemon;
    });
  }

  private constructor(
    options: DaemonOptions,
    parts: {
      keeper: DescriptorKeeper;
      mounter: Mounter;
      cache: ReturnType<typeof openDiskCache>;
      undo: UndoStack;
    },
  ) {
    const { settings, logger, logs } = options;
    const { keeper, mounter, cache, undo } = parts;
    const records = new MountRecords(settings.runDir);
    this.#options = options;
    this.#keeper = keeper;
    this.#records = records;
    this.#undo = undo;
    this.logger = logger;
    this.logs = logs;
    const native = loadNative();
    // A process that serves must not ask what it serves: overlayfs does when it is mounted.
    this.#native = {
      tryLock: (...args) => native.tryLock(...args),
      getXattr: (...args) => native.getXattr(...args),
      setXattr: (...args) => native.setXattr(...args),
      setTimes: (...args) => native.setTimes(...args),
      mount: (...args) => mounter.mount(...args),
      umount: (...args) => mounter.umount(...args),
    };
    const shared = createSharedContentParts(settings.memoryCacheBytes);
    this.images = new SharedImages({
      ...{ settings, records, keeper, cache, shared, logger, native: this.#native },
      imageIdleMs: settings.imageIdleMs,
      onUnmount: async ({ id, served }) => {
        const record = await records.find(id);
        if (record) this.#observer.ledger.ended(id, record.createdAt, await served.stats());
      },
    });
    this.#finder = new ImageFinder({ settings, logger });
    this.rootfs = new RootfsLifecycle({
      ...{ settings, records, logger },
      images: this.images,
      finder: this.#finder,
      overlayNative: this.#native,
      queueMax: settings.mountQueueMax,
    });
    const ask = askOwnServer(settings.runDir);
    this.#observer = new HostObserver({
      settings,
      mounts: () =>
        observeMounts(settings.runDir, async (id, operation, timeoutMs) =>
          this.images.get(id) ? await this.stats(id) : await ask(id, operation, timeoutMs),
        ),
      mountFailures: () => this.rootfs.failures,
      serverRestarts: () => keeper.restarts,
      evictions: () => cache.evictions(),
    });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /**
   * Opens what takes requests, at the place where successors open theirs; undefined where this daemon is ending. A successor gets what is mounted only afterwards: one that is
   * taken over while it starts must not put its socket in the place of the other's.
   */
  async open(open: () => Promise<ServedSocket>): Promise<ServedSocket | undefined> {
    if (this.#stopping) return undefined;
    const opened = open();
    this.#opened = opened.catch(() => undefined);
    return await opened;
  }

  /** Takes requests from now on. False where it is ending already. */
  ready(): boolean {
    if (this.#stopping) return false;
    this.#isReady = true;
    const images = this.images.list().length;
    this.#keeper.ready(`serving ${images} images`);
    this.logger.info({ images, restarts: this.#keeper.restarts, keeper: this.#keeper.name }, "ready");
    return true;
  }

  health(): HealthAnswer {
    return {
      status: "ok",
      version: skimVersion,
      pid: process.pid,
      startedAt: this.#startedAt,
      restarts: this.#keeper.restarts,
      cacheDir: this.#options.settings.cacheDir,
      images: this.images.list().length,
      rootfs: this.images.list().reduce((sum, { users }) => sum + users.size, 0),
      pending: this.rootfs.pending,
      draining: this.rootfs.draining,
      keeper: this.#keeper.name,
    };
  }

  readiness(): { ready: boolean; why?: string } {
    if (!this.#isReady) return { ready: false, why: "starting" };
    if (this.#stopping) return { ready: false, why: "ending" };
    if (this.rootfs.draining) return { ready: false, why: "draining" };
    return { ready: true };
  }

  async list(kind?: "image" | "mount" | "rootfs"): Promise<(ListedMount & { users?: string[] })[]> {
    const isOf = (listed: ListedMount) =>
      kind === undefined ||
      listed.kind === kind ||
      (kind === "rootfs" && ["run", "bundle"].includes(listed.kind));
    return (await listMounts(this.#options.settings.runDir)).filter(isOf).map((listed) => {
      const image = this.images.get(listed.imageId ?? listed.id);
      return image && listed.kind === "image" ? { ...listed, users: [...image.users] } : listed;
    });
  }

  /** Of a mount, or the image under a rootfs. Throws NOT_FOUND. */
  async stats(id: string): Promise<MountStats> {
    const { image } = await this.#imageOf(id);
    return { ...(await image.served.stats()), id };
  }

  /** What `skim stats --why` is made of, where `id` is the last that was started on its image. */
  async start(id: string): Promise<ServerStart> {
    const { image, record } = await this.#imageOf(id);
    const start = image.served.start();
    const begunMs = record.startMarks?.begun ?? 0;
    // The mount was there before this start.
    return (start.marks.mounted ?? 0) < begunMs ? { ...start, marks: {} } : start;
  }

  /** Of all mounts of the host, in Prometheus' text format. */
  async metrics(): Promise<string> {
    const { renderMetrics } = await import("./metrics.js");
    return await renderMetrics(await this.#observer.look());
  }

  profiles(id: string): ImageProfiles {
    const image = this.images.list().find((each) => each.id === id || each.users.has(id));
    if (!image) throw new SkimError("NOT_FOUND", `no image is mounted for ${id}`);
    return readProfiles(this.#options.settings.cacheDir, image.served.archive.identity.manifestDigest);
  }

  /** Fetches all of an image, behind everything that readers want. `tell` is called with each layer's bytes as they come. */
  async warm(name: ImageName, signal: AbortSignal, tell: (line: object) => unknown): Promise<Presence> {
    const user = newMountId("image");
    const image = await this.images.join(
      await this.#finder.find(name),
      user,
      {},
      { signal, isRecorded: false },
    );
    try {
      return await image.served.content.fill({
        urgency: "fill",
        signal,
        onProgress: (layer, bytes) => void tell({ layer: layer.digest, bytes }),
      });
    } finally {
      this.images.leave(image.id, user);
    }
  }

  /** What killed processes have left; with `remove` it is removed, with `all` also what may be somebody's work. */
  async cleanUp(how: { readonly remove: boolean; readonly all: boolean }): Promise<LeftoversAnswer> {
    const found = await cleanUp(
      {
        settings: this.#options.settings,
        native: this.#native,
        held: new Set(this.images.list().map(({ id }) => id)),
        alone: (id, work) => this.rootfs.alone(id, work),
      },
      how,
    );
    if (how.remove)
      for (const { name, kept } of found) if (kept === undefined) this.images.leaveEverything(name);
    return found;
  }

  /** Unmounts everything and ends. Throws IN_USE while something stands on an image, unless forced: then its users lose it. */
  async shutdown(force: boolean): Promise<void> {
    const ids = this.images.list().flatMap(({ users }) => [...users]);
    if (ids.length > 0 && !force)
      throw new SkimError(
        "IN_USE",
        `${ids.length} rootfs and mounts are there (${ids.slice(0, 5).join(", ")}); undo them, or end only the server with SIGTERM and start it again, or force it`,
      );
    this.rootfs.drain();
    for (const id of ids) await this.rootfs.remove(id, { force: true });
    await this.images.unmountUnused();
    void this.stop();
  }

  /** Ends serving. What is mounted stays, and waits for the next server. */
  stop(): Promise<void> {
    this.#stopping ??= this.#letGo().finally(() => this.#end());
    return this.#stopping;
  }

  /** It cannot serve. Where images are mounted, whoever keeps them tries again with another server; where none is, that one would fail as well, and nobody would see it. */
  async abandon(): Promise<void> {
    if (this.images.list().length === 0) await this.stop();
  }

  async #letGo(): Promise<void> {
    this.rootfs.drain();
    await this.rootfs.settled(pendingLimitMs);
    await this.images.letGo(letGoLimitMs);
    const opened = await this.#opened;
    if (!this.#isTakenOver) await opened?.withdraw();
    await this.#keeper.leave({ all: this.images.list().length === 0 });
    await this.#undo.unwind();
    this.logger.info("ended");
  }

  async #takeOver(held: readonly HeldConnection[]): Promise<void> {
    const recorded = await this.#records.list();
    await takeOver(held, recorded, {
      ...{ images: this.images, keeper: this.#keeper, native: this.#native, logger: this.logger },
    });
    for (const record of recorded) this.rootfs.knows(record);
  }

  async #cleanUpAfterPredecessors(): Promise<void> {
    try {
      await this.#records.removeHalfWritten();
      for (const { kind, name, why, kept } of await this.cleanUp({ remove: true, all: false }))
        this.logger.warn({ kind, name, why, ...(kept ? { kept } : {}) }, kept ? "left alone" : "removed");
    } catch (error) {
      this.logger.error({ error: describeError(error) }, "what has been left cannot be looked through");
    }
  }

  #watch(): void {
    void this.#keeper.takenOver.then(() => {
      this.#isTakenOver = true;
      return this.stop();
    });
    const { watchdogMs } = this.#options.settings;
    const watchdog = new Watchdog({
      keeper: this.#keeper,
      images: this.images,
      records: this.#records,
      logger: this.logger,
      watchdogMs: Math.min(watchdogMs, serviceWatchdogMs(process.env) || watchdogMs),
      wedgedMs: this.#options.settings.readDeadlineMs + wedgedExtraMs,
      restart: () => process.exit(errorTable.INTERNAL.exitCode),
    });
    this.#undo.defer(() => watchdog.stop());
    const owners = setInterval(() => void this.rootfs.removeOwnerless(), ownersIntervalMs);
    this.#undo.defer(() => clearInterval(owners));
    const reconciling = setInterval(() => void this.#reconcile(), reconcileIntervalMs);
    this.#undo.defer(() => clearInterval(reconciling));
  }

  /** A rootfs can be undone without its daemon. */
  async #reconcile(): Promise<void> {
    if (this.images.list().every(({ users }) => users.size === 0)) return;
    try {
      this.images.reconcile(new Set((await this.#records.list()).map(({ id }) => id)));
    } catch (error) {
      this.logger.warn({ error: describeError(error) }, "records cannot be read");
    }
  }

  async #imageOf(id: string): Promise<{ image: SharedImage; record: MountRecord }> {
    const record = await this.#records.find(id);
    const image = record && this.images.get(record.sharedImage ?? id);
    if (!image)
      throw new SkimError(
        "NOT_FOUND",
        `this daemon has no mount with id ${id}; skim ps lists what is mounted`,
      );
    return { image, record };
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
