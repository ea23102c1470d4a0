/**
 * The keeper that is a process of skim's own: native/holder, which is started where none answers, and told by packets (holder-protocol.ts) what to do.
 *
 * A copy of every descriptor stays here as well. Where the holder dies, a new one is started at once and given them all: only the death of both processes at
 * the same time ends a connection.
 */
import { closeSync } from "node:fs";
import { describeError, invariant, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { checkBeforeMounting, mountRefusal } from "../fuse/fuse-connection.js";
import { fusermountMount } from "../fuse/fusermount.js";
import { mountSource } from "../fuse/mount-source.js";
import { findMount } from "../fuse/mount-table.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import type { NativeBinding } from "../native/binding.js";
import {
  type DescriptorKeeper,
  type HeldConnection,
  type MountRequest,
  refusalOf,
} from "./descriptor-keeper.js";
import { HolderLink, HolderRefusal, LinkClosed } from "./holder-link.js";
import { encodePacket, packetBytesMax, protocolVersion } from "./holder-protocol.js";
import type { ServiceNotifier } from "./service-notifier.js";
import { startHolder } from "./start-holder.js";

/** Everything that a holder does takes microseconds; it has one thread. */
const answerTimeoutMs = 10_000;
/** HELLO is answered when the server before has let go, or has been killed after 15 s. */
const helloTimeoutMs = 30_000;
/** mount(2) looks its path up, and that may lead through anything. */
const mountTimeoutMs = 30_000;
/** A holder that ends just when somebody connects is followed by another. */
const openAttemptsMax = 5;
/** How often a holder that cannot be had is tried again, at most. */
const recoveryIntervalMs = 1_000;

export interface HolderKeeperOptions {
  readonly native: NativeBinding;
  readonly program: string;
  readonly runDir: string;
  readonly restart: { readonly file: string; readonly args: readonly string[] } | undefined;
  readonly logger: Logger;
  readonly logFile: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly watchdogMs: number;
  readonly abortAfterRestarts: number;
  /** Where there is a service manager that keeps no descriptors: told of READY, WATCHDOG and STOPPING. */
  readonly notifier: ServiceNotifier | undefined;
}

/** What is kept, with a descriptor of our own. */
interface Kept {
  readonly descriptor: number;
  readonly mountpoint: string;
  readonly note: string;
  initResult?: Uint8Array;
  deviceMinor: number;
}

export class HolderKeeper implements DescriptorKeeper {
  readonly name = "holder";
  readonly takenOver: Promise<void>;
  readonly #options: HolderKeeperOptions;
  readonly #native: NativeBinding;
  readonly #kept = new Map<string, Kept>();
  #onTakenOver = () => {};
  #isTakenOver = false;
  #isLeaving = false;
  #link: HolderLink | undefined;
  #recovery: Promise<void> | undefined;
  #triedMs = Number.NEGATIVE_INFINITY;
  #beatMs = Number.NEGATIVE_INFINITY;
  #restarts = 0;
  #status: string | undefined;

  private constructor(options: HolderKeeperOptions) {
    this.#options = options;
    this.#native = options.native;
    this.takenOver = new Promise((resolve) => {
      this.#onTakenOver = resolve;
    });
  }

  /** Throws ENVIRONMENT where no holder can be started, or none answers; IN_USE where another server is about to take the place. */
  static async open(options: HolderKeeperOptions): Promise<HolderKeeper> {
    const keeper = new HolderKeeper(options);
    await keeper.#open();
    return keeper;
  }

  get restarts(): number {
    return this.#restarts;
  }

  async takeHeld(): Promise<HeldConnection[]> {
    const taken: HeldConnection[] = [];
    const ended: string[] = [];
    for (let position = 0; ; position++) {
      const { fields, descriptor } = await this.#request("TAKE", [String(position)]);
      if (fields[0] === "END") break;
      const [, , id = "", mountpoint = "", note = "", initResult = "", minor = ""] = fields;
      invariant(descriptor >= 0, "a holder sends a descriptor with what it holds");
      const kept: Kept = { descriptor, mountpoint, note, deviceMinor: Number(minor) };
      if (initResult) kept.initResult = Buffer.from(initResult, "hex");
      this.#kept.set(id, kept);
      if (this.#native.isDisconnected(descriptor)) ended.push(id);
      else taken.push(this.#copyOf(id, kept));
    }
    // Mounts that have ended under the server before, which had no time to say so.
    for (const id of ended) await this.release(id);
    return taken;
  }

  async mount(request: MountRequest): Promise<HeldConnection> {
    const { id, allowOther, note } = request;
    const refusal = refusalOf(request);
    if (refusal) throw new SkimError("USAGE", `cannot mount on ${request.mountpoint}: ${refusal}`);
    const mountpoint = await checkBeforeMounting(request);
    const source = mountSource(request.fsName);
    const descriptor =
      (await this.#mountByHolder(id, mountpoint, source, allowOther, note)) ??
      (await this.#mountByFusermount(id, mountpoint, source, allowOther, note));
    const kept: Kept = { descriptor, mountpoint, note, deviceMinor: findMount(mountpoint)?.deviceMinor ?? 0 };
    this.#kept.set(id, kept);
    return this.#copyOf(id, kept);
  }

  async keepInitResult(id: string, initResult: Uint8Array): Promise<void> {
    const kept = this.#kept.get(id);
    if (!kept) throw new SkimError("NOT_FOUND", `no connection ${id} is kept`);
    kept.initResult = initResult;
    kept.deviceMinor = findMount(kept.mountpoint)?.deviceMinor ?? kept.deviceMinor;
    await this.#repeatable("KEEP", [id, hex(initResult), String(kept.deviceMinor)]);
  }

  async release(id: string): Promise<void> {
    const kept = this.#kept.get(id);
    this.#kept.delete(id);
    if (kept) closeSync(kept.descriptor);
    await this.#repeatable("RELEASE", [id]);
  }

  beat(served = 0): void {
    const { watchdogMs, notifier } = this.#options;
    notifier?.beat();
    const now = performance.now();
    // A link that cannot be had is looked for now and then, however the watchdog is set.
    if (!this.#link) {
      if (now - this.#triedMs >= recoveryIntervalMs) this.#beginRecovery();
      return;
    }
    if (watchdogMs === 0 || now - this.#beatMs < watchdogMs / 10) return;
    this.#beatMs = now;
    this.#link.tell("BEAT", [String(served)]);
  }

  ready(status: string): void {
    this.#status = status;
    this.#link?.tell("READY", [oneLine(status)]);
    this.#options.notifier?.ready(status);
  }

  async leave({ all }: { readonly all: boolean }): Promise<void> {
    this.#isLeaving = true;
    this.#options.notifier?.stopping();
    try {
      await this.#recovery?.catch(() => {});
      await this.#link?.request("LEAVE", [all ? "1" : "0"], { timeoutMs: answerTimeoutMs });
    } catch (error) {
      // A holder that has died meanwhile starts nobody.
      if (!(error instanceof LinkClosed)) throw error;
    } finally {
      this.#link?.close();
      for (const { descriptor } of this.#kept.values()) closeSync(descriptor);
      this.#kept.clear();
    }
  }

  #copyOf(id: string, { mountpoint, note, initResult, descriptor }: Kept): HeldConnection {
    const copy = this.#native.duplicate(descriptor);
    return { id, mountpoint, note, descriptor: copy, ...(initResult ? { initResult } : {}) };
  }

  // -- mounting -------------------------------------------------------------------------------------------------------

  /** The descriptor; undefined where the kernel does not let the holder mount. */
  async #mountByHolder(
    id: string,
    mountpoint: string,
    source: string,
    allowOther: boolean,
    note: string,
  ): Promise<number | undefined> {
    const fields = [id, mountpoint, source, allowOther ? "1" : "0", note];
    try {
      return (await this.#request("MOUNT", fields, { timeoutMs: mountTimeoutMs })).descriptor;
    } catch (error) {
      if (error instanceof HolderRefusal) {
        if (error.syscall === "mount" && error.code === "EPERM") return undefined;
        throw refusedMount(error, id, mountpoint);
      }
      // The holder may have mounted before it died. Nobody uses what nobody has been told of.
      if (error instanceof LinkClosed && findMount(mountpoint)?.type === "fuse.skim")
        await this.#native.umount(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW).catch(() => {});
      throw error instanceof LinkClosed
        ? new SkimError(
            "MOUNT_FAILED",
            `cannot mount on ${mountpoint}: the holder has died meanwhile; try again`,
            {
              cause: error,
            },
          )
        : error;
    }
  }

  async #mountByFusermount(
    id: string,
    mountpoint: string,
    source: string,
    allowOther: boolean,
    note: string,
  ): Promise<number> {
    const descriptor = await fusermountMount(mountpoint, source, allowOther, this.#native);
    try {
      await this.#request("HOLD", [id, mountpoint, note, "", "0"], { descriptor });
      return descriptor;
    } catch (error) {
      closeSync(descriptor);
      await this.#native.umount(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW).catch(() => {});
      throw error instanceof HolderRefusal ? refusedMount(error, id, mountpoint) : error;
    }
  }

  // -- the connection to the holder -------------------------------------------------------------------------------------

  async #request(
    verb: string,
    fields: readonly string[],
    { descriptor, timeoutMs = answerTimeoutMs }: { descriptor?: number; timeoutMs?: number } = {},
  ) {
    await this.#recovery;
    if (!this.#link) throw new SkimError("ENVIRONMENT", `there is no holder to ask for ${verb}; see its log`);
    return await this.#link.request(verb, fields, {
      timeoutMs,
      ...(descriptor === undefined ? {} : { descriptor }),
    });
  }

  /** What a new holder is told anyway, where the one that was asked has died. */
  async #repeatable(verb: string, fields: readonly string[]): Promise<void> {
    try {
      await this.#request(verb, fields);
    } catch (error) {
      if (!(error instanceof LinkClosed)) throw error;
      await this.#recovery;
    }
  }

  async #open(): Promise<void> {
    const { runDir, program, logFile } = this.#options;
    const onLetGo = () => this.#takeOver();
    for (let attempt = 1; ; attempt++) {
      let link = HolderLink.connect(runDir, this.#native, onLetGo);
      if (!link) {
        await startHolder(program, runDir, logFile);
        link = HolderLink.connect(runDir, this.#native, onLetGo);
      }
      try {
        if (!link) throw new LinkClosed("the holder has ended");
        const welcome = await link.request("HELLO", this.#hello(), { timeoutMs: helloTimeoutMs });
        this.#restarts += Number(welcome.fields[3]);
        this.#link = link;
        void link.closed.then(() => this.#lose(link));
        return;
      } catch (error) {
        link?.close();
        if (error instanceof HolderRefusal) throw refusedHello(error, runDir);
        if (!(error instanceof LinkClosed)) throw error;
        if (attempt === openAttemptsMax)
          throw new SkimError(
            "ENVIRONMENT",
            `the holder of ${runDir} ends as soon as it is asked; see ${logFile}`,
            { cause: error },
          );
      }
    }
  }

  #hello(): string[] {
    const { restart, logFile, environment, watchdogMs, abortAfterRestarts } = this.#options;
    const settings = [protocolVersion, String(watchdogMs), String(abortAfterRestarts), restart ? "1" : "0"];
    if (!restart) return [...settings, logFile, "", "0"];
    const { file, args } = restart;
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value ?? ""}`);
    const fields = [...settings, logFile, file, String(args.length), ...args, ...variables];
    const { length } = encodePacket(fields);
    if (length > packetBytesMax - 64)
      throw new SkimError(
        "ENVIRONMENT",
        `the environment and arguments of the server have ${length} bytes, and a holder keeps ${packetBytesMax}; start it with a smaller environment`,
      );
    return fields;
  }

  #takeOver(): void {
    this.#isTakenOver = true;
    this.#options.logger.info("another server takes over");
    this.#onTakenOver();
  }

  #lose(link: HolderLink): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    // Whoever takes over has the descriptors, or is being given them.
    if (this.#isLeaving || this.#isTakenOver) return;
    this.#options.logger.warn("the holder is gone, another one is started");
    this.#beginRecovery();
  }

  #beginRecovery(): void {
    if (this.#recovery || this.#isLeaving || this.#isTakenOver) return;
    this.#triedMs = performance.now();
    this.#recovery = this.#recover().finally(() => {
      this.#recovery = undefined;
    });
    // Requests that wait for it are told; the next beat tries again.
    this.#recovery.catch((error) =>
      this.#options.logger.error(
        { error: describeError(error) },
        "there is no holder: mounts die with this server",
      ),
    );
  }

  /** A new holder that has everything that we have. */
  async #recover(): Promise<void> {
    await this.#open();
    const link = this.#link!;
    for (const [id, { descriptor, mountpoint, note, initResult, deviceMinor }] of this.#kept)
      try {
        await link.request("HOLD", [id, mountpoint, note, hex(initResult), String(deviceMinor)], {
          descriptor,
          timeoutMs: answerTimeoutMs,
        });
      } catch (error) {
        // The others are worth holding all the same.
        if (!(error instanceof HolderRefusal)) throw error;
        this.#options.logger.error(
          { id, error: error.message },
          "the holder does not hold it: it dies with this server",
        );
      }
    if (this.#status !== undefined) link.tell("READY", [oneLine(this.#status)]);
    this.#options.logger.info({ held: this.#kept.size }, "another holder holds everything");
  }
}

function hex(bytes: Uint8Array | undefined): string {
  return bytes ? Buffer.from(bytes).toString("hex") : "";
}

/** A NUL would end the field. */
function oneLine(text: string): string {
  return text.replace(/[\0\n]/g, " ");
}

function refusedMount(error: HolderRefusal, id: string, mountpoint: string): SkimError {
  const { code, syscall } = error;
  if (syscall === "mount") return mountRefusal(mountpoint, code, error);
  if (code === "EEXIST")
    return new SkimError("IN_USE", `cannot mount on ${mountpoint}: a connection ${id} is kept already`, {
      cause: error,
    });
  if (code === "EBUSY")
    return new SkimError("IN_USE", `cannot mount on ${mountpoint}: another server takes over; ask that one`, {
      cause: error,
    });
  return new SkimError("ENVIRONMENT", `cannot mount on ${mountpoint}: ${error.message}`, { cause: error });
}

function refusedHello(error: HolderRefusal, runDir: string): SkimError {
  if (error.code === "EBUSY")
    return new SkimError("IN_USE", `another server is just taking over in ${runDir}; wait for it`, {
      cause: error,
    });
  return new SkimError(
    "ENVIRONMENT",
    `the holder of ${runDir} does not understand this version of skim: ${error.message}`,
    { cause: error },
  );
}
