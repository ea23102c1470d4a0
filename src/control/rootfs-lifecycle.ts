/**
 * Rootfs and plain mounts of a daemon, from a request to what can be used, and back: one function for each direction. Each step is recorded before it is done, so
 * that a daemon that dies between any two of them leaves what the next one finds.
 */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { describeError, invariant, isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import { haltAt } from "../base/halt.js";
import type { Logger } from "../base/logger.js";
import type { ProcessIdentity } from "../base/process-identity.js";
import { isRunning } from "../base/process-identity.js";
import { Semaphore } from "../base/semaphore.js";
import type { Settings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import { checkMountpoint, refuseMounted } from "../fuse/mountpoint.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { Platform } from "../image/platform.js";
import type { FetchAheadOptions } from "../mount/fetch-ahead.js";
import { newRecord } from "../mount/mount-image.js";
import { type MountRecord, type MountRecords, requireMountId } from "../mount/mount-record.js";
import { type MountedRootfs, type MountRootfsOptions, planRootfs, stackRootfs } from "../mount/rootfs.js";
import { undoRecord } from "../mount/undo-record.js";
import type { OverlayBinding, OverlayMount } from "../overlay/overlay-mount.js";
import type { ImageFinder } from "./image-finder.js";
import type { RegistryAccess } from "./image-request.js";
import { KeyedLock } from "./keyed-lock.js";
import type { SharedImage, SharedImages } from "./shared-images.js";

const MS_BIND = 4096;

/** Mounts under way at once: each is a few system calls, and one in the kernel's mount lock at a time. */
const mountsAtOnce = 16;

export interface MountRequestBase extends FetchAheadOptions {
  readonly id: string;
  /** An archive's file (absolute), or the name of an image. */
  readonly image: string;
  readonly source?: string | undefined;
  readonly platform?: Platform | undefined;
  readonly access: RegistryAccess;
  /** See MountRecord. */
  readonly token?: string | undefined;
}

export type RootfsRequest = MountRequestBase &
  Pick<MountRootfsOptions, "kind" | "upper" | "tmpfsUpper" | "merged" | "dirs" | "ownDirectories"> & {
    /** It goes when this process has ended. */
    readonly owner?: ProcessIdentity | undefined;
  };

export type DirectoryRequest = MountRequestBase & { readonly directory: string };

export interface LifecycleOptions {
  readonly settings: Settings;
  readonly records: MountRecords;
  readonly images: SharedImages;
  readonly finder: ImageFinder;
  /** Mounts and unmounts in a process that serves nothing. */
  readonly overlayNative: OverlayBinding;
  readonly logger: Logger;
  /** Requests that may be under way; more are refused. */
  readonly queueMax: number;
}

export interface DaemonRootfs extends MountedRootfs {
  /** Of the shared mount that it stands on. */
  readonly imageId: string;
}

export class RootfsLifecycle {
  readonly #options: LifecycleOptions;
  readonly #slots = new Semaphore(mountsAtOnce);
  readonly #locks = new KeyedLock();
  /** What goes with its process, by id. */
  readonly #owned = new Map<string, ProcessIdentity>();
  #draining = false;
  #pending = 0;
  #failures = 0;
  /** Resolves when the next request is done. */
  #next = new Promise<void>(() => {});
  #done = () => {};

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** Runs `work` while no request is at what has this id. */
  async alone(id: string, work: () => Promise<void>): Promise<void> {
    await this.#locks.run(id, work);
  }

  /** Takes nothing new from now on. */
  drain(): void {
    this.#draining = true;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Mounts that were asked for in vain. */
  get failures(): number {
    return this.#failures;
  }

  /** Requests under way. */
  get pending(): number {
    return this.#pending;
  }

  /** Mounts a rootfs. On failure nothing is left. */
  async createRootfs(request: RootfsRequest): Promise<DaemonRootfs> {
    const { settings, records, overlayNative, logger } = this.#options;
    return await this.#admit(request, async (undo, image) => {
      const record: MountRecord = {
        ...planRootfs(rootfsOptions(request, image), openedOf(request, image), settings, image.mountpoint),
        sharedImage: image.id,
        ...(request.token ? { requestToken: request.token } : {}),
        ...(request.owner ? { owner: request.owner } : {}),
      };
      await records.create(record);
      undo.defer(() => undoRecord(records, record, { force: true, native: overlayNative }));
      haltAt("record-created");

      await mkdir(path.join(settings.runDir, "rootfs", record.id), { recursive: true, mode: 0o700 });
      // Of two that want the same place, one finds the other's mount there.
      const overlay = await this.#locks.run(record.merged!, () =>
        stackRootfs(record, image.served.archive, overlayNative, {
          ...rootfsOptions(request, image),
          logger: logger.child({ mount: record.id }),
        }),
      );
      record.overlay = overlay;
      // That of a run goes with its owner.
      if (!request.owner) record.complete = true;
      await records.update(record);
      haltAt("rootfs-completed");
      if (request.owner) this.#owned.set(record.id, request.owner);
      logger.info({ mount: record.id, image: image.id, kind: record.kind }, "mounted");
      return { ...placesOf(record.id, overlay), imageId: image.id };
    });
  }

  /** Shows an image at a directory, read-only: the shared mount, bound there. On failure nothing is left. */
  async createMount(request: DirectoryRequest): Promise<{ id: string; mountpoint: string; imageId: string }> {
    const { settings, records, overlayNative, logger } = this.#options;
    return await this.#admit(request, async (undo, image) => {
      const mountpoint = await checkMountpoint(request.directory);
      const record: MountRecord = {
        ...newRecord({
          id: request.id,
          kind: "mount",
          opened: openedOf(request, image),
          lower: mountpoint,
          settings,
        }),
        sharedImage: image.id,
        ...(request.token ? { requestToken: request.token } : {}),
      };
      await records.create(record);
      undo.defer(() => records.remove(record.id));
      haltAt("record-created");
      await this.#locks.run(mountpoint, () => this.#bind(image.mountpoint, refuseMounted(mountpoint)));
      // Only now: what is mounted there before is somebody else's.
      undo.defer(() => overlayNative.umount(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW));
      record.complete = true;
      await records.update(record);
      logger.info({ mount: record.id, image: image.id, kind: record.kind, mountpoint }, "mounted");
      return { id: record.id, mountpoint, imageId: image.id };
    });
  }

  async #bind(from: string, mountpoint: string): Promise<void> {
    await this.#options.overlayNative.mount(from, mountpoint, "", MS_BIND, "").catch((cause: unknown) => {
      throw new SkimError(
        "MOUNT_FAILED",
        `cannot mount on ${mountpoint}: mount(2) says ${systemErrorCode(cause)}`,
        { cause },
      );
    });
  }

  /** Undoes a rootfs or a plain mount: what is gone already is left out. Throws NOT_FOUND, and IN_USE naming who uses it. */
  async remove(
    id: string,
    options: { readonly force?: boolean; readonly keepUpper?: boolean },
  ): Promise<{ id: string; upper?: string }> {
    const { records, images, overlayNative } = this.#options;
    return await this.#locks.run(id, async () => {
      const record = await records.find(id);
      if (!record || record.kind === "image") {
        const hint = record ? "; an image's mount goes by itself when nobody uses it" : "";
        throw new SkimError("NOT_FOUND", `no rootfs or mount with id ${id}${hint}`);
      }
      const { upper } = await undoRecord(records, record, { ...options, native: overlayNative });
      if (record.sharedImage !== undefined) images.leave(record.sharedImage, id);
      this.#owned.delete(id);
      this.#options.logger.info({ mount: id, kind: record.kind }, "undone");
      return { id, ...(upper === undefined ? {} : { upper }) };
    });
  }

  /** A rootfs that was there before this server. */
  knows({ id, owner, sharedImage, overlay, complete }: MountRecord): void {
    if (sharedImage !== undefined && !complete && overlay && owner) this.#owned.set(id, owner);
  }

  /** Removes what was made for processes that have ended. */
  async removeOwnerless(): Promise<void> {
    for (const [id, owner] of this.#owned) {
      if (isRunning(owner)) continue;
      this.#owned.delete(id);
      const { records, logger } = this.#options;
      try {
        // Its maker may have let it stay before it ended.
        if ((await records.find(id))?.complete) continue;
        await this.remove(id, { force: true });
        logger.warn({ mount: id, owner: owner.pid }, "removed: the process that wanted it has ended");
      } catch (error) {
        if (!isSkimError(error, "NOT_FOUND"))
          logger.error(
            { mount: id, error: describeError(error) },
            "its owner has ended, and it cannot be removed",
          );
      }
    }
  }

  /** Resolves when no request is under way, or after `limitMs`. */
  async settled(limitMs: number): Promise<void> {
    const endsAt = performance.now() + limitMs;
    while (this.#pending > 0 && performance.now() < endsAt)
      await Promise.race([this.#next, new Promise((resolve) => setTimeout(resolve, limitMs).unref())]);
  }

  /** In its turn, and once for each id: the image is mounted, and `work` stands on it. */
  async #admit<T>(
    request: MountRequestBase,
    work: (undo: UndoStack, image: SharedImage) => Promise<T>,
  ): Promise<T> {
    requireMountId(request.id);
    const { queueMax, finder, images } = this.#options;
    if (this.#draining)
      throw new SkimError(
        "BUSY",
        "the daemon takes no more mounts: it is being drained; use another host, or start it again",
      );
    if (this.#pending >= queueMax)
      throw new SkimError(
        "BUSY",
        `${this.#pending} mounts are under way already, and no more may be (mountQueueMax); try again in a moment`,
      );
    if (this.#pending++ === 0) this.#renew();
    try {
      return await this.#locks.run(request.id, async () => {
        await this.#refuseTaken(request);
        // Not in its turn yet: this may take as long as a registry does, or as indexing.
        const found = { ...(await finder.find(request)), ...apartFrom(request) };
        return await this.#slots.run(async () => {
          const undo = new UndoStack();
          return await undo.guard(async () => {
            const image = await images.join(found, request.id, request);
            undo.defer(() => images.leave(image.id, request.id));
            return await work(undo, image);
          });
        });
      });
    } catch (error) {
      this.#failures++;
      throw error;
    } finally {
      this.#pending--;
      this.#done();
      this.#renew();
    }
  }

  #renew(): void {
    this.#next = new Promise((resolve) => {
      this.#done = resolve;
    });
  }

  /** An id is for one rootfs. What a request has made whose answer was lost is undone: its sender asks again. */
  async #refuseTaken({ id, token }: MountRequestBase): Promise<void> {
    const { records, overlayNative } = this.#options;
    const record = await records.find(id);
    if (!record) return;
    if (token === undefined || record.requestToken !== token)
      throw new SkimError(
        "IN_USE",
        `id ${id} is taken; choose another one, or undo it with: skim ${record.kind === "mount" ? "umount" : "rootfs umount"} ${id}`,
      );
    await undoRecord(records, record, { force: true, native: overlayNative });
  }
}

/** Who records has a mount for himself, for nothing must have been read in it before; who wants nothing fetched ahead shares with others who do. */
function apartFrom({ recordProfile, prefetch, id }: MountRequestBase): { apart?: string } {
  if (recordProfile) return { apart: id };
  return prefetch === "none" ? { apart: "prefetch none" } : {};
}

function placesOf(id: string, { lower, upper, work, merged }: OverlayMount): MountedRootfs {
  return { id, lower, upper, work, merged };
}

function rootfsOptions(request: RootfsRequest, image: SharedImage): MountRootfsOptions {
  const { kind, upper, tmpfsUpper, merged, dirs, ownDirectories } = request;
  for (const given of [upper, merged, ...(ownDirectories ?? [])])
    invariant(given === undefined || path.isAbsolute(given), "a request has absolute paths");
  return {
    id: request.id,
    image: image.served.archive.identity.reference,
    ...(kind ? { kind } : {}),
    ...(upper ? { upper } : {}),
    ...(tmpfsUpper ? { tmpfsUpper } : {}),
    ...(merged ? { merged } : {}),
    ...(dirs ? { dirs } : {}),
    ...(ownDirectories ? { ownDirectories } : {}),
  };
}

/** The archive that is served: it is there as long as the mount. */
function openedOf(request: MountRequestBase, image: SharedImage) {
  return {
    archiveFile: path.join(path.dirname(image.mountpoint), "archive"),
    source: request.source ?? image.served.archive.identity.reference,
  };
}
