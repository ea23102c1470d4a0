/**
 * One container from start to end: rootfs, bundle, runtime, and all of it undone again, whatever happened. The mount server undoes
 * it when this process is killed.
 */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { describeError, isSkimError, SkimError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { resolveSettings } from "../base/settings.js";
import { UndoStack } from "../base/undo-stack.js";
import type { ExaminedCheck } from "../doctor/examine.js";
import { writeBundle } from "../runtime/bundle.js";
import { runContainer } from "../runtime/container.js";
import { filesMount } from "../runtime/files-mount.js";
import { requireRuntime } from "../runtime/runtime-command.js";
import { type ContainerOptions, planContainer } from "./container-plan.js";
import { beginMarks } from "./mount-image.js";
import { type MountRecord, newMountId } from "./mount-record.js";
import { type HeldRootfs, type HoldRootfs, holdRootfs, type MountRootfsOptions } from "./rootfs.js";
import type { MountStats } from "./serve-image.js";

export interface RunImageOptions
  extends Omit<MountRootfsOptions, "id" | "kind" | "merged" | "command">,
    ContainerOptions {
  readonly id?: string;
  /**
   * Under runsc: what the container writes is in the upper on the host, and seen there (`host`, the default), or in an overlay of the sandbox's own above the
   * merged view, and gone with it (`own`).
   */
  readonly runscOverlay?: "own" | "host";
  /** Called when everything is ready and the runtime is about to start. */
  readonly onStart?: (started: { readonly id: string; readonly mountMs: number }) => void;
}

export interface RanImage {
  readonly id: string;
  /** Of the process, 128 + n when signal n ended it. */
  readonly exitCode: number;
  /** What the start took: from the call to the runtime's start, and to the container's end. */
  readonly mountMs: number;
  readonly totalMs: number;
  /** What was served and fetched; undefined when the mount server had died. */
  readonly stats: MountStats | undefined;
  /** Where the start came to nothing: the failing check that explains it, if one does. Trying again cannot help then. */
  readonly cause?: ExaminedCheck;
}

/**
 * Runs an image, once: what cannot succeed is not tried again. Standard streams are this process's. Throws what mounting throws, and RUNTIME_FAILED with the
 * check that explains it, if one does; then nothing is left.
 */
export async function runImage(options: RunImageOptions, hold: HoldRootfs = holdRootfs): Promise<RanImage> {
  const started = performance.now();
  const marks = beginMarks(options);
  const settings = resolveSettings(options.settings);
  const id = options.id ?? newMountId("run");
  const undo = new UndoStack();
  const run = await undo.guard(async () => {
    const runtime = options.runtime ?? "runc";
    await requireRuntime(runtime);
    const runscOverlay = options.runscOverlay ?? "host";
    refuseUselessUpper(options);
    // Under gVisor files are reached by a program inside (src/copy).
    const mounts = [...(options.mounts ?? []), ...(runtime === "runsc" ? [filesMount()] : [])];
    const plan = planContainer({ ...options, runtime, mounts });
    const { args, entrypoint } = options;
    const command = { ...(args ? { args } : {}), ...(entrypoint ? { entrypoint } : {}) };
    const rootfs = await hold({ ...options, marks, command, id, kind: "run" }, plan);
    let isUndone = false;
    undo.defer(async () => {
      isUndone = true;
      await undoAfterRun(rootfs, options.logger ?? silentLogger);
    });
    // The container only sees that its files cannot be reached any more (ENOTCONN).
    void rootfs.lost.then((how) => {
      if (isUndone) return;
      const { logFile } = rootfs.record;
      options.logger?.error(
        { id, how, logFile },
        "the mount server has died: the container's files are gone",
      );
    });

    const bundle = path.join(settings.runDir, "bundles", id);
    const stateDir = path.join(settings.runDir, runtime);
    const container = { runtime, id, stateDir };
    const madeDirectories = [...rootfs.record.madeDirectories, bundle];
    await rootfs.note({ bundle, container, madeDirectories });
    await mkdir(bundle, { recursive: true, mode: 0o700 });
    await writeBundle(bundle, plan.spec(rootfs.merged, bundle), plan.files);
    marks.set("started");
    // Beside the start; whoever undoes the run waits for it.
    const noted = rootfs.note({ startMarks: marks.snapshot() }).catch(() => {});
    undo.defer(() => noted);
    const mountMs = Math.round(performance.now() - started);
    options.onStart?.({ id, mountMs });

    const { exitCode, startFailure } = await runContainer({
      ...container,
      bundle,
      logger: options.logger ?? silentLogger,
      runscOverlay:
        // On the disk, or in the memory, that the upper is in.
        runscOverlay === "own" ? { kind: "own", directory: path.dirname(rootfs.upper) } : { kind: "none" },
      ...(options.signal ? { signal: options.signal } : {}),
    }).catch(async (error: unknown) => {
      throw await explained(error, (output) => causeOf(options, rootfs.record, { output }));
    });
    const cause = await causeOf(options, rootfs.record, {
      exitCode,
      ...(startFailure === undefined ? {} : { output: startFailure }),
    });
    const stats = await rootfs.stats();
    const totalMs = Math.round(performance.now() - started);
    return { id, exitCode, mountMs, totalMs, stats, ...(cause ? { cause } : {}) };
  });
  await undo.unwind();
  return run;
}

function refuseUselessUpper(options: RunImageOptions): void {
  if (options.runscOverlay !== "own" || options.upper === undefined) return;
  throw new SkimError(
    "USAGE",
    "with --runsc-overlay own nothing would be written to the upper dir; leave one of the two out",
  );
}

/** Undefined for what ended well, or with nothing that a check explains. */
async function causeOf(
  options: RunImageOptions,
  record: MountRecord,
  failure: { readonly exitCode?: number; readonly output?: string },
): Promise<ExaminedCheck | undefined> {
  if (failure.exitCode === 0) return undefined;
  // Loaded here: a start that succeeds needs none of it.
  const { causeOfFailedStart } = await import("./explain-failure.js");
  return await causeOfFailedStart(
    { ...options, image: record.archive, source: options.source ?? record.reference },
    failure,
  );
}

/** A runtime's error with the check that explains it behind its own words. */
async function explained(
  error: unknown,
  causeOf: (output: string) => Promise<ExaminedCheck | undefined>,
): Promise<unknown> {
  if (!isSkimError(error, "RUNTIME_FAILED")) return error;
  const cause = await causeOf(error.message);
  if (!cause) return error;
  const { path: where, detail, fix } = cause;
  const why = `${cause.id}${where === undefined ? "" : ` ${where}`}: ${detail}. Fix: ${fix}`;
  return new SkimError(error.code, `${error.message}; ${why}`, { cause: error });
}

/**
 * Undoes a run. What fails is logged and not thrown: it must hide neither the exit code nor the error of the run, and the mount server
 * tries once more when this process has ended.
 *
 * Somebody on the host who looks into the merged view must not keep a container's remains for ever.
 */
async function undoAfterRun(rootfs: HeldRootfs, logger: Logger): Promise<void> {
  const { id } = rootfs;
  try {
    await rootfs.undo({});
  } catch (error) {
    const inUse = isSkimError(error, "IN_USE");
    logger.warn(
      { id, error: describeError(error) },
      inUse ? "taken away from who uses it" : "not undone; trying again by force",
    );
    await rootfs
      .undo({ force: true })
      .catch((second: unknown) =>
        logger.error(
          { id, error: describeError(second) },
          "not undone; if it stays: skim rootfs umount --force",
        ),
      );
  }
}
