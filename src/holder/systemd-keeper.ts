/**
 * The keeper that is the service manager: descriptors go to its store (FileDescriptorStoreMax=, systemd.service(5)) and come back at the next start as those
 * of socket activation do (sd_listen_fds(3)). What else belongs to them is in files (held-files.ts).
 *
 * A server can be killed between any two steps, so their order is this, and `takeHeld` mends what is left of each:
 *
 * | step | killed behind it, the next server finds |
 * |---|---|
 * | mounting: 1. file written | a file without a descriptor: removed |
 * | 2. /dev/fuse opened and stored | a descriptor that is not connected: both removed |
 * | 3. mounted | a connection that waits for FUSE_INIT: held |
 * | 4. file written with the result of FUSE_INIT | held |
 * | releasing: 1. descriptor taken from the store | a file without a descriptor: removed |
 * | 2. file removed | nothing |
 *
 * A descriptor is stored before it is mounted, because the one thing that nobody could mend is a mount whose descriptor has died. The manager is told not to poll it
 * (FDPOLL=0): one that is not mounted is in error, which would make it drop it; and polling /dev/fuse wakes for every request.
 */
import { closeSync } from "node:fs";
import { SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { checkBeforeMounting, mountDescriptor, openFuseDevice } from "../fuse/fuse-connection.js";
import { isFuseDescriptor } from "../fuse/fuse-descriptors.js";
import { fusermountMount } from "../fuse/fusermount.js";
import { mountSource } from "../fuse/mount-source.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { NativeBinding } from "../native/binding.js";
import {
  type DescriptorKeeper,
  type HeldConnection,
  type MountRequest,
  refusalOf,
} from "./descriptor-keeper.js";
import { HeldFiles } from "./held-files.js";
import type { ServiceNotifier } from "./service-notifier.js";

/** Names of ours in the store, where a service may have others. With an id they have at most 74 of the 255 characters that are allowed. */
const namePrefix = "skim-held-";
/** SD_LISTEN_FDS_START. */
const firstDescriptor = 3;

export interface SystemdKeeperOptions {
  readonly native: NativeBinding;
  readonly runDir: string;
  readonly logger: Logger;
  readonly environment: NodeJS.ProcessEnv;
  readonly notifier: ServiceNotifier;
  /** How many descriptors may be stored. */
  readonly storedMax: number;
}

export class SystemdKeeper implements DescriptorKeeper {
  readonly name = "systemd";
  /** The manager counts them, and does not tell. */
  readonly restarts = 0;
  /** Two servers are never up at the same time. */
  readonly takenOver = new Promise<void>(() => {});
  readonly #options: SystemdKeeperOptions;
  readonly #native: NativeBinding;
  readonly #files: HeldFiles;
  /** What came with the start, until it is taken. */
  readonly #handed: Map<string, number[]>;
  /** Stored, or about to be. */
  readonly #ids = new Set<string>();

  /** Takes over the descriptors that this process was started with. To be made once, and early: programs started before inherit them. Throws LOCAL_IO. */
  constructor(options: SystemdKeeperOptions) {
    this.#options = options;
    this.#native = options.native;
    this.#files = new HeldFiles(options.runDir);
    this.#handed = takeHanded(options.environment, options.native);
  }

  async takeHeld(): Promise<HeldConnection[]> {
    const taken: HeldConnection[] = [];
    for (const [id, descriptors] of this.#handed) {
      const connected = descriptors.filter((descriptor) => !this.#native.isDisconnected(descriptor));
      const [descriptor, ...others] = connected;
      for (const other of [...others, ...descriptors.filter((one) => !connected.includes(one))])
        closeSync(other);
      const file = this.#files.read(id);
      if (descriptor !== undefined && file) {
        const { mountpoint, note, initResult } = file;
        this.#ids.add(id);
        taken.push({
          id,
          descriptor,
          mountpoint,
          note,
          ...(initResult ? { initResult: Buffer.from(initResult, "hex") } : {}),
        });
        continue;
      }
      this.#options.logger.warn(
        { id },
        descriptor === undefined ? "its mount has ended" : "nothing is known of it",
      );
      if (descriptor !== undefined) closeSync(descriptor);
      await this.#forget(id);
    }
    for (const id of this.#files.ids()) if (!this.#ids.has(id)) this.#files.remove(id);
    this.#handed.clear();
    return taken;
  }

  async mount(request: MountRequest): Promise<HeldConnection> {
    const { id, allowOther, note } = request;
    const refusal = refusalOf(request);
    if (refusal) throw new SkimError("USAGE", `cannot mount on ${request.mountpoint}: ${refusal}`);
    if (this.#ids.has(id) || this.#handed.has(id))
      throw new SkimError(
        "IN_USE",
        `cannot mount on ${request.mountpoint}: a connection ${id} is kept already`,
      );
    if (this.#ids.size + this.#handed.size >= this.#options.storedMax)
      throw new SkimError(
        "ENVIRONMENT",
        `cannot mount on ${request.mountpoint}: systemd stores ${this.#options.storedMax} descriptors for this service; raise FileDescriptorStoreMax=`,
      );
    this.#ids.add(id);
    try {
      const mountpoint = await checkBeforeMounting(request);
      this.#files.write(id, { mountpoint, note });
      const descriptor = await this.#connect(id, mountpoint, mountSource(request.fsName), allowOther);
      return { id, descriptor, mountpoint, note };
    } catch (error) {
      await this.#forget(id);
      throw error;
    }
  }

  async keepInitResult(id: string, initResult: Uint8Array): Promise<void> {
    const file = this.#files.read(id);
    if (!file) throw new SkimError("NOT_FOUND", `no connection ${id} is kept`);
    this.#files.write(id, { ...file, initResult: Buffer.from(initResult).toString("hex") });
  }

  async release(id: string): Promise<void> {
    await this.#forget(id);
  }

  beat(): void {
    this.#options.notifier.beat();
  }

  ready(status: string): void {
    this.#options.notifier.ready(status);
  }

  async leave(): Promise<void> {
    this.#options.notifier.stopping();
    // What has been stored is with the manager before this process is gone.
    await this.#options.notifier.barrier();
  }

  async #connect(id: string, mountpoint: string, source: string, allowOther: boolean): Promise<number> {
    const descriptor = openFuseDevice();
    try {
      await this.#store(id, descriptor);
      if (await mountDescriptor(descriptor, mountpoint, source, allowOther, this.#native)) return descriptor;
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
    closeSync(descriptor);
    await this.#unstore(id);
    // fusermount3 opens and mounts in one step.
    const other = await fusermountMount(mountpoint, source, allowOther, this.#native);
    try {
      await this.#store(id, other);
      return other;
    } catch (error) {
      closeSync(other);
      await this.#native.umount(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW).catch(() => {});
      throw error;
    }
  }

  async #store(id: string, descriptor: number): Promise<void> {
    await this.#options.notifier.send(["FDSTORE=1", `FDNAME=${namePrefix}${id}`, "FDPOLL=0"], descriptor);
    await this.#options.notifier.barrier();
  }

  async #unstore(id: string): Promise<void> {
    await this.#options.notifier.send(["FDSTOREREMOVE=1", `FDNAME=${namePrefix}${id}`]);
    await this.#options.notifier.barrier();
  }

  async #forget(id: string): Promise<void> {
    await this.#unstore(id);
    this.#files.remove(id);
    this.#ids.delete(id);
  }
}

/** Ours among LISTEN_FDS, by id. Copies: what was handed over would be inherited by every program that is started. Others' are left as they are. */
function takeHanded(
  environment: NodeJS.ProcessEnv,
  native: Pick<NativeBinding, "duplicate">,
): Map<string, number[]> {
  const handed = new Map<string, number[]>();
  if (environment.LISTEN_PID !== String(process.pid)) return handed;
  const names = (environment.LISTEN_FDNAMES ?? "").split(":");
  const count = Number.parseInt(environment.LISTEN_FDS ?? "0", 10);
  for (let position = 0; position < count; position++) {
    const name = names[position] ?? "";
    const descriptor = firstDescriptor + position;
    if (!name.startsWith(namePrefix) || !isFuseDescriptor(descriptor)) continue;
    const id = name.slice(namePrefix.length);
    handed.set(id, [...(handed.get(id) ?? []), native.duplicate(descriptor)]);
    closeSync(descriptor);
  }
  return handed;
}
